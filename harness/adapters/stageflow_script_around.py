"""What stands around stages in a stand-alone script: layers, retries, the queue, the ids.

The source below is printed, not run here; a test runs what is printed. It follows
`stageflow_layers`, `stageflow_sinks` and `stageflow_ids` line by line, in a form that a
maintainer can read without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.adapters.stageflow_layers import idempotency_key, priorities, retry_options
from harness.kernel.errors import NotOffered
from harness.kernel.plan import Layer, Plan
from harness.kernel.program import Program
from harness.kernel.script_literals import Unrenderable, identifier, literal

if TYPE_CHECKING:
    from harness.adapters.stageflow_probe import Probe

__all__ = ["HELPERS", "chain", "data_of", "imports", "layers", "queue", "told"]

_OWN = ("observe", "raise", "deny")
IMPORT_MAX = 86

HELPERS = {
    "only(": '''\
def only(kind, stages, **options):
    """One of Stageflow's own interceptors, put around some stages only."""

    class ForStages(kind):
        async def before(self, stage_name, ctx):
            return await super().before(stage_name, ctx) if stage_name in stages else None

        async def after(self, stage_name, result, ctx):
            if stage_name in stages:
                await super().after(stage_name, result, ctx)

        async def on_error(self, stage_name, error, ctx):
            if stage_name not in stages:
                return ErrorAction.FAIL
            return await super().on_error(stage_name, error, ctx)

    return ForStages(**options)''',
    "told": '''\
id_names = {}  # id -> what it stands for


def told(ctx):
    """For whom the code works, by what it is given and by the correlation id that was set."""
    ids = {
        "run": ctx.pipeline_run_id,
        "tenant": {ORG},
        "correlation": get_correlation_id() or ctx.request_id,
    }
    return {what: id_names.get(one, str(one)) for what, one in ids.items()}''',
}

_SINK = '''\
class UserSink:
    """The user's own sink, behind the queue."""

    count = in_hand = 0

    async def emit(self, *, type, data):
        number = (data.get("producer", ""), data.get("n", -1))
        note("", "deliver.begin", number)
        self.count += 1
        mine = self.count
        self.in_hand += 1
        try:{STEPS}
        finally:
            self.in_hand -= 1
        note("", "deliver.end", number)

    def try_emit(self, *, type, data):
        raise AssertionError("the queue awaits emit()")


user_sink = UserSink()
sink = BackpressureAwareEventSink(user_sink{SIZE})
using_sink = set()  # runs under way


def account():
    """Offered, delivered, dropped, pending, most that may be pending, by the queue's metrics."""
    metrics, pending = sink.metrics, sink.queue_size + user_sink.in_hand
    emitted, dropped = metrics.emitted, metrics.dropped
    return (emitted + dropped, emitted - pending, dropped, pending, {MAX})


async def open_sink(run):
    using_sink.add(run)
    await sink.start()


async def close_sink(run):
    using_sink.discard(run)
    if not using_sink:
        with contextlib.suppress(Exception):  # the drain lets out what the user's sink raises
            await sink.stop(drain=True, timeout={DRAIN})
    note("", "account", account())'''


def layers(engine: Probe, plan: Plan, check: str, run_of: str) -> dict[str, str]:
    """Return how each layer of the user's own is made -> the source of its class.

    Args:
        run_of: expression for the name of the run that a layer's `ctx` is of.
    """
    many = len(plan.runs) > 1
    numbered = zip(plan.layers, priorities(engine, plan.layers), strict=True)
    return {
        f"{_class_name(one)}()": _class(one, priority, plan, check, run_of if many else "")
        for one, priority in numbered
        if one.kind in _OWN
    }


def _class_name(layer: Layer) -> str:
    return identifier(layer.name).title().replace("_", "") + "Layer"


def _class(layer: Layer, priority: int, plan: Plan, check: str, run: str) -> str:
    """Return a layer's class: what it notes, and how it fails or denies, where it does."""
    many = bool(run)
    me = f'f"{{{run}}}/{{stage_name}}"' if many else "stage_name"
    mine = [f"stage_name in {literal(layer.stages)}"] if layer.stages else []
    asked = run.replace("'", '"')
    acts = [*mine, *([f"{asked} in {literal(layer.runs)}"] if many and layer.runs else ())]
    told = literal(layer.name)
    before = _if(mine, [f'note({me}, "layer.enter", {told})'] if '"layer.enter"' in check else [])
    after: list[str] = []
    exits = '"layer.exit"' in check
    if exits:
        failed = f'"raise:" + self.raised.pop({me}, "StageFailed")'
        how = f'how = {failed} if result.status == "failed" else "ok"'
        after = _if(mine, [how, f'note({me}, "layer.exit", ({told}, how))'])
    does = _if(acts, _deed(layer, plan, me))
    if layer.kind == "raise" and layer.phase == "after":
        after += does
    else:
        before += does
    lines = [
        f"class {_class_name(layer)}(BaseInterceptor):",
        f"    name, priority = {told}, {priority}",
        *(["    raised = {}  # stage -> its exception"] if exits else ()),
        "",
        "    async def before(self, stage_name, ctx):",
        *(f"        {line}" for line in before or ["pass"]),
        "",
        "    async def after(self, stage_name, result, ctx):",
        *(f"        {line}" for line in after or ["pass"]),
    ]
    if exits:
        lines += [
            "",
            "    async def on_error(self, stage_name, error, ctx):",
            f"        self.raised[{me}] = type(error).__name__",
            "        return ErrorAction.FAIL",
        ]
    return "\n".join(lines)


def _deed(layer: Layer, plan: Plan, me: str) -> list[str]:
    """Return the lines by which a layer fails or denies, none where it does neither."""
    told = literal(layer.name)
    concerned = not layer.runs or any(one.id in layer.runs for one in plan.runs)
    if layer.kind == "observe" or not concerned:
        return []
    if layer.kind == "deny":
        denied = literal(f"denied by {layer.name}")
        return [
            f'note({me}, "layer.deny", {told})',
            f"return InterceptorResult(stage_ran=False, error={denied})",
        ]
    error = "asyncio.CancelledError" if layer.error == "CancelledError" else layer.error
    failed = literal(f"layer {layer.name} failed")
    return [f'note({me}, "layer.raise", {told})', f"raise {error}({failed})"]


def _if(conditions: list[str], lines: list[str]) -> list[str]:
    if not conditions or not lines:
        return lines
    return [f"if {' and '.join(conditions)}:", *(f"    {line}" for line in lines)]


def imports(engine: Probe, program: Program, plan: Plan, check: str) -> tuple[str, ...]:
    """Return the lines that import what the functions below name."""
    lines = []
    names = set()
    if any(one.kind in _OWN for one in plan.layers):
        names |= {"BaseInterceptor"} | ({"ErrorAction"} if '"layer.exit"' in check else set())
    if any(one.kind == "deny" for one in plan.layers):
        names.add("InterceptorResult")
    if any(stage.retry for stage in program.stages):
        names.add("ErrorAction")
        lines.append(
            "from stageflow.pipeline.retry import BackoffStrategy, JitterStrategy, RetryInterceptor"
        )
    for name in _restricted(engine, plan):
        names |= {"ErrorAction", *({name} if name.startswith("Circuit") else ())}
        if name.startswith("Idem"):
            lines.append(f"from stageflow.pipeline.idempotency import {name}")
    if names:
        names.add("get_default_interceptors")
        line = f"from stageflow.pipeline.interceptors import {', '.join(sorted(names))}"
        if len(line) > IMPORT_MAX:
            block = "".join(f"\n    {name}," for name in sorted(names))
            line = f"from stageflow.pipeline.interceptors import ({block}\n)"
        lines.append(line)
    if plan.sink is not None:
        lines.append("from stageflow.events import BackpressureAwareEventSink")
    return tuple(lines)


def chain(engine: Probe, program: Program, plan: Plan) -> list[str]:
    """Return the lines that make `interceptors`, none where the default ones will do.

    Raises:
        Unrenderable: for what the adapter itself could not tell the engine, or only by a class
            of its own.
    """
    made = [_retry(engine, s.name, program) for s in program.stages if s.retry is not None]
    for layer, priority in zip(plan.layers, priorities(engine, plan.layers), strict=True):
        if layer.kind in _OWN:
            made.append(f"{_class_name(layer)}()")
        elif priority != engine.layer_kinds[layer.kind].priority:
            raise Unrenderable(f"a {layer.kind} elsewhere than the engine has it")
        elif layer.stages:
            made.append(f"only({engine.layer_kinds[layer.kind].__name__}, {literal(layer.stages)})")
    if not made:
        return []
    default = "*get_default_interceptors()"
    restricted = _restricted(engine, plan)
    if restricted:
        kinds = f"({', '.join(restricted)},)"
        default = f"*(one for one in get_default_interceptors() if not isinstance(one, {kinds}))"
    return [f"interceptors = [{', '.join((default, *made))}]"]


def _restricted(engine: Probe, plan: Plan) -> list[str]:
    """Return the names of the engine's layers that the plan puts around some stages only."""
    kinds = {one.kind for one in plan.layers if one.kind not in _OWN and one.stages}
    return sorted(engine.layer_kinds[kind].__name__ for kind in kinds)


def _retry(engine: Probe, stage: str, program: Program) -> str:
    retry = program.stage(stage).retry
    assert retry is not None
    try:
        options = retry_options(engine, stage, retry)
    except NotOffered as exc:
        raise Unrenderable(str(exc)) from exc
    words = ", ".join(
        f"{k}={'(Exception,)' if k == 'retryable_errors' else v}" for k, v in options.items()
    )
    return f"only(RetryInterceptor, ({literal(stage)},), {words})"


def data_of(plan: Plan, timeout: str | None) -> str:
    """Return the source of what the caller puts into `ctx.data`, "" for nothing."""
    parts = [] if timeout is None else [f'"_timeout_ms": {timeout}']
    key = idempotency_key(plan)
    if key is not None:
        parts.append(f'"idempotency_key": {literal(key)}')
    return ", ".join(parts)


def queue(engine: Probe, plan: Plan) -> str:
    """Return the source of the queue, of the user's sink behind it, and of their use."""
    spec = plan.sink
    assert spec is not None
    steps = []
    if spec.delivery_s:
        steps.append(f"await asyncio.sleep({spec.delivery_s!r})")
    if spec.hangs_at is not None:
        steps += [f"if mine >= {spec.hangs_at}:", "    await asyncio.sleep(86400)  # it hangs"]
    if spec.error is not None:
        error = "asyncio.CancelledError" if spec.error == "CancelledError" else spec.error
        steps += [
            f"if mine % {spec.error_every} == 0:",
            '    note("", "deliver.fail", number)',
            f'    raise {error}("the sink failed")',
        ]
    lines = "".join(f"\n            {line}" for line in steps or ["pass"])
    size = "" if spec.queue_max is None else f", max_queue_size={spec.queue_max}"
    most = engine.queue_default if spec.queue_max is None else spec.queue_max
    text = _SINK.replace("{STEPS}", lines).replace("{SIZE}", size).replace("{MAX}", str(most))
    return text.replace("{DRAIN}", repr(spec.drain_s))


def told(engine: Probe) -> str:
    """Return the source of `told`, as this graph's stages know their tenant."""
    return HELPERS["told"].replace(
        "{ORG}", "ctx.org_id" if engine.legacy else "ctx.snapshot.org_id"
    )
