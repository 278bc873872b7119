"""Records of a diagnosis."""

from __future__ import annotations

from pydantic import Field

from compress.core.spec import Record


class Check(Record):
    """Result of trying one package, provider, format, back end or step.

    Attributes:
        name: of what was tried.
        works: whether it works here.
        detail: version or result; the reason if it does not work. In JSON: ``said``.
        fix: command or action that makes it work; empty if it works. In JSON: ``mend``.
    """

    name: str
    works: bool
    detail: str = Field(serialization_alias="said")
    fix: str = Field(default="", serialization_alias="mend")


class Gpu(Record):
    """A GPU: marketing name, compute capability such as ``8.6``, and memory in bytes."""

    name: str
    compute_capability: str
    memory_bytes: int


class Machine(Record):
    """Facts about the machine; None if unknown.

    Attributes:
        python: version of the interpreter.
        executable: path of the interpreter.
        platform: operating system and architecture.
        cores: number of cores that this process may use.
        memory_bytes, memory_free_bytes: installed and available memory.
        disk_free_bytes: free space in the working directory.
        driver, cuda: version of the NVIDIA driver, and the newest CUDA version it supports.
        gpus: GPUs that the driver lists.
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


class Probes(Record):
    """Results of the probes that import packages.

    Attributes:
        packages: packages that formats and back ends need.
        providers: execution providers of ONNX Runtime, each tried with a network.
        formats: formats of `compress export`.
        backends: back ends of `compress bench`.
    """

    packages: tuple[Check, ...]
    providers: tuple[Check, ...]
    formats: tuple[Check, ...]
    backends: tuple[Check, ...]


class Report(Probes):
    """A diagnosis.

    Attributes:
        machine: facts about this machine.
        path: steps of the default path: train, export to ONNX, measure with ONNX Runtime on the CPU.
    """

    machine: Machine
    path: tuple[Check, ...]

    @property
    def works(self) -> bool:
        """Whether every step of the default path works."""
        return all(check.works for check in self.path)
