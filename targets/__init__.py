"""From a network to codes on a device: graph, kernels, code generation, bundles, the runtime, devices."""
