"""What an examination found."""

from __future__ import annotations

from compress.core.spec import Record


class Check(Record):
    """One thing that was tried.

    Attributes:
        name: of the package, provider, format, back end or step.
        works: whether it does.
        said: its version or what it did; what went wrong where it does not.
        mend: the command or the deed that mends it; empty where it works.
    """

    name: str
    works: bool
    said: str
    mend: str = ""


class Gpu(Record):
    """A GPU: marketing name, compute capability such as ``8.6``, and memory in bytes."""

    name: str
    compute_capability: str
    memory_bytes: int


class Machine(Record):
    """The machine; None where something is not known.

    Attributes:
        python: version of the interpreter, and its path.
        platform: operating system and architecture.
        cores: cores this process may use.
        memory_bytes, memory_free_bytes: installed, and available now.
        disk_free_bytes: where the command was given.
        driver, cuda: version of NVIDIA's driver, and the newest CUDA it supports.
        gpus: those the driver lists.
    """

    python: str
    executable: str
    platform: str
    cores: int
    memory_bytes: int | None
    memory_free_bytes: int | None
    disk_free_bytes: int | None
    driver: str | None
    cuda: str | None
    gpus: tuple[Gpu, ...]


class Report(Record):
    """An examination.

    Attributes:
        path: the default path: train, export to ONNX, measure in ONNX Runtime on the CPU.
        packages: those the formats and back ends rest on.
        providers: what ONNX Runtime was built with, each tried with a network.
        formats: of `compress export`.
        backends: of `compress bench`.
    """

    machine: Machine
    path: tuple[Check, ...]
    packages: tuple[Check, ...]
    providers: tuple[Check, ...]
    formats: tuple[Check, ...]
    backends: tuple[Check, ...]

    @property
    def works(self) -> bool:
        """Whether the default path does."""
        return all(check.works for check in self.path)
