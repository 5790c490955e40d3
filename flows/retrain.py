"""What a schedule runs: newer data and recipe in, a better champion out, or the champion that was."""

from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows.parameters import NO_OVERRIDES, RetrainOverrides
from flows.pipeline import dataset, project_lock, run_name, told, training
from flows.stages import ROOT, log
from tasks import settings
from tasks.errors import StippleError
from tasks.progress import noted
from tasks.project import reproduction
from tasks.registry import versions


@flow(flow_run_name=run_name)
def retrain(overrides: RetrainOverrides = NO_OVERRIDES) -> str:
    """Build the data set; where it or the recipe is new, train a challenger and promote it if it is better.

    The champion changes in one last step. Whatever fails before leaves it as it was.
    """
    with project_lock():
        overrides.apply()
        rules = settings.load(ROOT)
        done = dataset()
        if reason := versions.nothing_new(rules, ROOT, reproduction.question("train")):
            told(done)
            return report(f"Nothing to do: {reason}.", f"# Nothing to do\n\n{reason[0].upper()}{reason[1:]}.\n")
        from tasks.registry import comparison, warm_start  # with torch: a night without news ends without it

        log.info("Training begins %s.", warm_start.choose(rules, ROOT))
        question = reproduction.question("train")
        done += training()
        if reproduction.question("train") != question:
            raise StippleError(
                "data, recipe or code changed while the challenger was trained; run `stipple retrain` again"
            )
        result = judge(question)
        told(done)
        return report(comparison.summary(result), comparison.markdown(result))


@task(cache_policy=NO_CACHE)
def judge(question: str) -> dict[str, Any]:
    """Challenger against champion on the same held-out clips; the winner is the champion from here on."""
    from tasks.registry import comparison

    with noted(lambda: "in the comparison with the champion"):
        return comparison.judge(settings.load(ROOT), ROOT, question)


def report(line: str, page: str) -> str:
    """Show what came of the run in the log and as an artifact in the UI."""
    log.info(line)
    create_markdown_artifact(page, key="retraining", description=line)
    return line
