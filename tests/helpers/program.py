"""The program as tests run it."""

from hashpress.cli.main import run


def refused(capsys, *arguments, code=2):
    """Run the program, expect it to refuse, and return its one line."""
    assert run([str(argument) for argument in arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("hashpress: ")
    assert err.count("\n") == 1
    return err


def run_program(capsys, *arguments):
    """Run the program; return its exit code, output and errors."""
    code = run([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err
