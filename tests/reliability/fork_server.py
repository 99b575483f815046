"""A program that io_faults.cpp was preloaded into: started once, run many times, with a fault at a chosen call."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Run:
    status: int  # the exit status, or minus the signal that ended it
    calls: int  # that touched the folder
    output: bytes
    error: str


class ForkServer:
    def __init__(self, preload: str, program: str, arguments: list, watched: Path, scratch: Path):
        self.output = scratch / f"output-{len(list(scratch.glob('output-*')))}-{os.urandom(4).hex()}"
        command_read, self.commands = os.pipe()
        self.answers, answer_write = os.pipe()
        environment = os.environ | {
            "LD_PRELOAD": preload,
            "IO_FAULTS_FOLDER": str(watched),
            "IO_FAULTS_OUTPUT": str(self.output),
            "IO_FAULTS_COMMANDS": str(command_read),
            "IO_FAULTS_ANSWERS": str(answer_write),
            "OMP_NUM_THREADS": "1",
        }
        command = [program, *map(str, arguments)]
        self.process = subprocess.Popen(command, env=environment, pass_fds=(command_read, answer_write))
        os.close(command_read)
        os.close(answer_write)
        self.rest = b""

    def close(self):
        os.close(self.commands)
        os.close(self.answers)
        self.process.wait()

    def _answer(self) -> list[str]:
        while b"\n" not in self.rest:
            chunk = os.read(self.answers, 4096)
            if not chunk:
                raise RuntimeError("the fork server has ended")
            self.rest += chunk
        line, self.rest = self.rest.split(b"\n", 1)
        return line.decode().split()

    def run(self, fails_at: int = 0, mode="0", while_stopped=None) -> Run:
        os.write(self.commands, f"{fails_at} {mode}\n".encode())
        answer = self._answer()
        while answer[0] == "stopped":
            while_stopped()
            os.write(self.commands, b"continue\n")
            answer = self._answer()
        status = os.waitstatus_to_exitcode(int(answer[1]))
        error = Path(f"{self.output}.err").read_text(errors="replace")
        return Run(status, int(answer[2]), self.output.read_bytes(), error)


def files(folder: Path) -> dict[str, bytes]:
    """What the folder holds for a program that knows nothing of saves in flight, theirs left out."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name[0] != "."}


def files_behind_the_journal(folder: Path) -> dict[str, bytes]:
    """What the folder holds for a reader that follows docs/files.md."""
    found = files(folder)
    journal = folder / ".saving-journal"
    if journal.exists():
        steps = json.loads(journal.read_text())
        for temporary, name in zip(steps["temporary"], steps["name"], strict=True):
            if (folder / temporary).exists():
                found[name] = (folder / temporary).read_bytes()
        for name in steps["remove"]:
            found.pop(name, None)
    return found
