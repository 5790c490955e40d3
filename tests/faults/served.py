"""Faults of what stands around a flow: the Prefect server, the worker, `stipple serve-local`."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import psutil

from tests.faults import kills, world
from tests.faults.kills import Moment
from tests.faults.trial import RUN, Trial

DEPLOYMENT = ("prefect", "deployment", "run", "retrain/retrain")


def server(trial: Trial, moment: Moment, back: bool) -> None:
    """Kill the server that a run reports to; with `back` it is there again while the run works."""
    folder, port = trial.world.folder, world.free_port()
    trial.met = str(moment)
    with ExitStack() as stack:
        process, url = stack.enter_context(world.prefect_server(folder, port))
        trial.environment["PREFECT_API_URL"] = url
        run = trial.start(*RUN)
        if not kills.await_(trial, moment, run):
            trial.wrong.append(f"ended before {moment}")
            return
        world.end(process)
        began = time.monotonic()
        if not back:
            run.wait()
        stack.enter_context(world.prefect_server(folder, port))
        trial.met += f"; the run itself ended with {run.wait()}"
        trial.mark()
        trial.finish(*RUN, began=began)
        trial.check()


def worker(trial: Trial, serving: psutil.Popen) -> psutil.Process:
    return next(p for p in serving.children() if "worker" in p.cmdline())


def flow_run(trial: Trial, serving: psutil.Popen) -> psutil.Process:
    """The process that a worker has started for the run: the one that writes the trace."""
    return psutil.Process(trial.events()[-1]["pid"])


def serve_local(trial: Trial, serving: psutil.Popen) -> psutil.Process:
    return serving


def deployment(trial: Trial, moment: Moment, target: Callable[[Trial, psutil.Popen], psutil.Process]) -> None:
    """Kill a part of `stipple serve-local` while a deployment's run works, and start another run."""
    port = world.free_port()
    trial.met = str(moment)
    trial.environment |= {
        "PREFECT_HOME": str(trial.world.folder / f"{trial.name}-prefect"),
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
    }
    with ExitStack() as stack:
        serving = stack.enter_context(served(trial))
        trial.run(*DEPLOYMENT)
        if not kills.await_(trial, moment, serving):
            trial.wrong.append(f"ended before {moment}")
            return
        family = serving.children(recursive=True)
        target(trial, serving).kill()
        began = time.monotonic()
        if target is not flow_run:
            serving.wait()
            psutil.wait_procs(family)
            stack.enter_context(served(trial))
        trial.mark()
        trial.finish(*DEPLOYMENT, "--watch", began=began)
    trial.check()


@contextmanager
def served(trial: Trial) -> Iterator[psutil.Popen]:
    said = trial.say().count("Ctrl-C stops")
    serving = trial.start("stipple", "serve-local")
    try:
        while trial.say().count("Ctrl-C stops") == said:
            if serving.poll() is not None:
                raise RuntimeError(f"serve-local ended by itself; {trial.log} says why")
            time.sleep(0.2)
        yield serving
    finally:
        if serving.poll() is None:
            family = serving.children(recursive=True)
            serving.send_signal(signal.SIGINT)
            serving.wait()
            psutil.wait_procs(family)
