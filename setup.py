"""Packaging of hashpress: the folders of the pipeline stand at the top level and are mapped to ``hashpress.*``."""

from pathlib import Path

from setuptools import find_packages, setup

FOLDERS = ("core", "hashnets", "modelfile", "compress", "targets", "profiling", "cli")

packages = ["hashpress"]
package_dir = {"hashpress": "api"}
for folder in FOLDERS:
    packages.append(f"hashpress.{folder}")
    packages += [f"hashpress.{folder}.{child}" for child in find_packages(folder)]
    package_dir[f"hashpress.{folder}"] = folder

setup(
    name="hashpress",
    version="0.1.0",
    description="Compress a trained deep-hashing network until it fits the device, compile it there, measure it there.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=packages,
    package_dir=package_dir,
    package_data={
        "hashpress": ["py.typed"],
        "hashpress.compress": ["recipes/*.toml", "recipes/measured.json"],
        "hashpress.targets.native": ["src/*.c", "src/*.h"],
        "hashpress.profiling": ["html/*.html", "html/*.css"],
    },
    install_requires=[
        "torch>=2.11,<2.15",
        "numpy>=2.1,<3",
        "apache-tvm==0.27.0.post1",
        "apache-tvm-ffi==0.1.14.post1",
        "constriction>=0.5,<0.6",
        "safetensors>=0.5,<1",
        "onnx>=1.18,<2",
        "onnxruntime>=1.22,<2",
        "onnxscript>=0.5,<1",
        "scikit-learn>=1.5,<2",
        "scipy>=1.13,<2",
        "pillow>=11",
        "matplotlib>=3.9,<4",
        "jinja2>=3.1,<4",
        "psutil>=6",
        "rich>=13",
        "typer>=0.29,<1",
        "kmeans1d>=0.5,<0.6",
        "tensorly>=0.9,<0.11",
    ],
    extras_require={
        "cross": ["ziglang>=0.13,<0.18"],
        "dev": [
            "faiss-cpu>=1.9",
            "hypothesis>=6.100",
            "mkdocs>=1.6,<2",
            "mypy>=1.15",
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "ruff>=0.9",
            "torch-pruning>=1.6,<2",
        ],
    },
    entry_points={
        "console_scripts": ["hashpress = hashpress.cli.main:run"],
        "pytest11": ["hashpress = hashpress.profiling.pytest_plugin"],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
