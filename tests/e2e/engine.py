"""Starts unmodified llama.cpp programs, with and without our plug-in. One at a time."""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

THREADS = min(2, os.cpu_count() or 1)
OURS = re.compile(r"turboquant: (.*)")
HELD = re.compile(
    r"the cache held (?P<mib>[\d.]+) MiB, (?P<bits>[\d.]+) bits per value \(f16: (?P<f16>[\d.]+) MiB\); "
    r"(?P<packed>\d+) tensors in codes, (?P<plain>\d+) in plain f16, (?P<wide>\d+) with 8-bit keys"
)


def lines_of_ours(log):
    """What the plug-in said, without the line about the bytes at the end."""
    return [line for line in OURS.findall(log) if not line.startswith("the cache held")]


def held(log):
    """The plug-in's own figures from the last line about the bytes."""
    found = list(HELD.finditer(log))
    assert found, f"no line 'the cache held ...' in the log:\n{log[-2000:]}"
    return {name: float(value) for name, value in found[-1].groupdict().items()}


@dataclasses.dataclass
class Done:
    command: list
    code: int
    text: str
    log: str

    @property
    def ours(self):
        return lines_of_ours(self.log)

    def ok(self):
        assert self.code == 0, f"{' '.join(self.command)}\nexit code {self.code}\n{self.log[-4000:]}"
        return self

    def refused(self):
        """A sane exit, not a signal, with exactly one line from us."""
        assert self.code > 0 and self.code < 128, f"exit code {self.code}\n{self.log[-4000:]}"
        assert self.text.strip() == ""
        assert len(self.ours) == 1, self.ours or self.log[-4000:]
        return self.ours[0]


# The engine logs from a thread of its own and does not wait for it at exit: the last lines get lost about every other time, on
# a busy machine nearly always. Preloaded, this waits a moment after main() is done, while that thread still runs.
LINGER = "#include <unistd.h>\n__attribute__((destructor)) static void linger(void) { usleep(400000); }\n"


class Engine:
    def __init__(self, binaries, plugin, folder):
        self.binaries = pathlib.Path(binaries)
        self.plugin = pathlib.Path(plugin)
        self.folder = pathlib.Path(folder)  # where programs leave files
        self.linger = self.folder / "linger.so"
        subprocess.run(["cc", "-x", "c", "-shared", "-fPIC", "-o", self.linger, "-"], input=LINGER.encode(), check=True)

    def environment(self, preset=None, plugin=True, **variables):
        """preset=None: the stock program, without the plug-in."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("TQ_", "GGML_", "LLAMA_", "OMP_"))}
        clean["OMP_WAIT_POLICY"] = "passive"  # several programs may share the machine's cores
        if preset is not None:
            clean["GGML_BACKEND_PATH"] = str(self.plugin if plugin is True else plugin)
            clean["TQ_PRESET"] = preset
        clean |= {name: str(value) for name, value in variables.items()}
        clean["LD_PRELOAD"] = ":".join([str(self.linger), *filter(None, [clean.get("LD_PRELOAD")])])
        return clean

    def run(self, program, *arguments, preset=None, plugin=True, timeout=600, **variables):
        command = [str(self.binaries / program), *map(str, arguments)]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, cwd=self.folder,
            env=self.environment(preset, plugin, **variables),
        )  # fmt: skip
        return Done(command, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def complete(self, model, prompt, tokens, *arguments, **keywords):
        """Greedy text from llama-completion, prompt left out."""
        prompt_file = ["-f", prompt] if isinstance(prompt, pathlib.Path) else ["-p", prompt]
        return self.run(
            "llama-completion", "-m", model, *prompt_file, "-n", tokens, "--temp", 0, "-t", THREADS, "-no-cnv", "--no-display-prompt",
            "--ignore-eos", "--no-warmup", "-lv", 4, *arguments, **keywords,
        )  # fmt: skip

    @contextlib.contextmanager
    def server(self, folder, model, *arguments, preset=None, **variables):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        log = pathlib.Path(folder) / f"server-{port}.log"
        command = [
            str(self.binaries / "llama-server"), "-m", str(model), "--host", "127.0.0.1", "--port", str(port), "-t", str(THREADS), "--no-ui",
            "--no-warmup", "-lv", "4", *map(str, arguments),
        ]  # fmt: skip
        with open(log, "wb") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=self.environment(preset, **variables)
            )
        server = Server(process, f"http://127.0.0.1:{port}", log)
        try:
            server.wait_until_ready()
            yield server
            server.stop()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


class Server:
    def __init__(self, process, url, log_path):
        self.process = process
        self.url = url
        self.log_path = log_path

    @property
    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_until_ready(self):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"llama-server ended with {self.process.returncode}\n{self.log[-4000:]}"
            with contextlib.suppress(OSError):
                if self.get("/health")["status"] == "ok":
                    return
            time.sleep(0.1)
        raise AssertionError(f"llama-server did not get ready\n{self.log[-4000:]}")

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=600) as answer:
            return json.load(answer)

    def post(self, path, **body):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.code} {error.read().decode(errors='replace')}") from None
        except OSError as error:
            raise AssertionError(f"{path}: {error}; llama-server's exit code {self.process.poll()}\n{self.log[-4000:]}") from None

    def complete(self, prompt, tokens, slot=-1, **options):
        return self.post("/completion", prompt=prompt, n_predict=tokens, temperature=0, id_slot=slot, ignore_eos=True, **options)

    def resident_bytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.search(r"^VmRSS:\s*(\d+) kB", status, re.M)[1])

    def stop(self):
        """Ends it as Ctrl-C does; the plug-in then logs what the cache held."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=60)
        assert code == 0, f"llama-server's exit code was {code}\n{self.log[-4000:]}"
