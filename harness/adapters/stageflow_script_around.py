"""What stands around stages in a stand-alone script: layers, retries, the queue, the ids.

The source below is printed, not run here; a test runs what is printed. It follows
`stageflow_layers`, `stageflow_sinks` and `stageflow_ids` line by line, in a form that a
maintainer can read without them.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from harness.adapters.stageflow_layers import idempotency_key, priorities, retry_options
from harness.kernel.errors import NotOffered
from harness.kernel.plan import Layer, Plan
from harness.kernel.program import Program
from harness.kernel.script_literals import Unrenderable, identifier, literal
from harness.kernel.steps import Step, walk

if TYPE_CHECKING:
    from harness.adapters.stageflow_probe import Probe

__all__ = [
    "HELPERS",
    "account",
    "chain",
    "closed",
    "data_of",
    "identity",
    "imports",
    "layers",
    "opened",
    "queue",
    "retries",
    "told",
    "waits",
]

_OWN = ("observe", "raise", "deny")
# Steps that do not fail by themselves.
CALM = (
    *("sleep", "yield", "never", "acquire", "cleanup", "using", "generate", "emit", "log"),
    *("ok", "skip", "cancel_run"),
)

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
}


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
        alone = all(_alone_fails(s.name, program, plan) for s in program.stages if s.retry)
        names |= {"get_default_interceptors"} if alone else {"ErrorAction"}
        told = [dict(_told_of_retry(engine, s.name, program)) for s in program.stages if s.retry]
        own = ["BackoffStrategy"] if any("backoff_strategy" in one for one in told) else []
        own += ["JitterStrategy", "RetryInterceptor"]
        lines.append(f"from stageflow.pipeline.retry import {', '.join(own)}")
    for name in _restricted(engine, plan):
        names |= {"ErrorAction", *({name} if name.startswith("Circuit") else ())}
        if name.startswith("Idem"):
            lines.append(f"from stageflow.pipeline.idempotency import {name}")
    if names:
        names.add("get_default_interceptors")
        lines.append(f"from stageflow.pipeline.interceptors import {', '.join(sorted(names))}")
    if plan.sink is not None:
        lines.append("from stageflow.events import BackpressureAwareEventSink")
    return tuple(lines)


def chain(engine: Probe, program: Program, plan: Plan) -> list[str]:
    """Return the lines that make `interceptors`, none where the default ones will do.

    Raises:
        Unrenderable: for what the adapter itself could not tell the engine, or only by a class
            of its own.
    """
    retried = [stage.name for stage in program.stages if stage.retry is not None]
    made = ["retry" if len(retried) == 1 else f"retry_{identifier(name)}" for name in retried]
    lines = [
        f"{variable} = {_retry(engine, name, program, plan)}"
        for variable, name in zip(made, retried, strict=True)
    ]
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
    return [*lines, f"interceptors = [{', '.join((default, *made))}]"]


def _restricted(engine: Probe, plan: Plan) -> list[str]:
    """Return the names of the engine's layers that the plan puts around some stages only."""
    kinds = {one.kind for one in plan.layers if one.kind not in _OWN and one.stages}
    return sorted(engine.layer_kinds[kind].__name__ for kind in kinds)


def _retry(engine: Probe, stage: str, program: Program, plan: Plan) -> str:
    words = ", ".join(f"{name}={value}" for name, value in _told_of_retry(engine, stage, program))
    if _alone_fails(stage, program, plan):
        return f"RetryInterceptor({words})"
    return f"{_retry_name(stage)}({words})"


def _retry_name(stage: str) -> str:
    return "Retry" + identifier(stage).title().replace("_", "")


def retries(program: Program) -> dict[str, str]:
    """Return how a retry of one stage among others is made -> the source of its class."""
    if len(program.stages) == 1:
        return {}
    return {f"{_retry_name(s.name)}(": _retry_class(s.name) for s in program.stages if s.retry}


def _retry_class(stage: str) -> str:
    return f"""\
class {_retry_name(stage)}(RetryInterceptor):
    async def on_error(self, stage_name, error, ctx):
        if stage_name != {literal(stage)}:
            return ErrorAction.FAIL
        return await super().on_error(stage_name, error, ctx)"""


def _alone_fails(stage: str, program: Program, plan: Plan) -> bool:
    """Say whether no other stage can raise, so that there is nothing of theirs to be retried:
    the engine asks nobody about a stage that timed out, or that returned its failure."""
    others = [one for one in program.stages if one.name != stage]
    failing = any(layer.kind in ("raise", "deny") for layer in plan.layers)
    steps = [step for one in others for step in walk(one.steps)]
    calm = all(_never_raises(step) for step in steps)
    return not others or (calm and not failing)


def _never_raises(one: Step) -> bool:
    """Say whether no exception comes out of a step; a cancellation is none that is retried."""
    if one.op == "raise":
        return bool(one.args["error"] == "CancelledError")
    return one.op in (*CALM, "fail") and not one.args.get("fails")


def _told_of_retry(engine: Probe, stage: str, program: Program) -> list[tuple[str, Any]]:
    """Return the options of a retry that are not the engine's defaults, as source."""
    declared = program.stage(stage)
    retry = declared.retry
    assert retry is not None
    try:
        options = retry_options(engine, declared)
    except NotOffered as exc:
        raise Unrenderable(str(exc)) from exc
    given = inspect.signature(engine.RetryInterceptor).parameters
    longest_ms = 1000 * retry.backoff_s * retry.factor ** max(0, retry.attempts - 2)
    if longest_ms <= given["max_delay_ms"].default:  # none comes to the most that is allowed
        del options["max_delay_ms"]
    if "retryable_errors" in options:
        options["retryable_errors"] = "(Exception,)"
    if "retry_on_status" in options:
        options["retry_on_status"] = '("failed",)'
    return [(name, v) for name, v in options.items() if v != given[name].default]


def data_of(plan: Plan, timeout: str | None) -> str:
    """Return the source of what the caller puts into `ctx.data`, "" for nothing."""
    parts = [] if timeout is None else [f'"_timeout_ms": {timeout}']
    key = idempotency_key(plan)
    if key is not None:
        parts.append(f'"idempotency_key": {literal(key)}')
    return ", ".join(parts)


def queue(engine: Probe, plan: Plan, check: str) -> str:
    """Return the source of the queue, and of the user's sink behind it."""
    spec = plan.sink
    assert spec is not None
    hangs_later = spec.hangs_at is not None and spec.hangs_at > 1
    counts = hangs_later or (spec.error is not None and spec.error_every > 1)
    numbers = any(f'"deliver.{kind}"' in check for kind in ("begin", "end", "fail"))
    pends = waits(plan) and ('"account"' in check or "pending" in check)
    lines = []
    if numbers:
        told = '(data.get("producer", ""), data.get("n", -1))'
        begun_only = '"deliver.end"' not in check and '"deliver.fail"' not in check
        if begun_only:
            lines.append(f'note("", "deliver.begin", {told})')
        else:
            lines += [f"number = {told}", 'note("", "deliver.begin", number)']
    steps = [f"await asyncio.sleep({spec.delivery_s!r})"] if spec.delivery_s else []
    if counts:
        steps += ["self.count += 1", "mine = self.count"]
    hangs = "await asyncio.sleep(86400)  # it hangs"
    if hangs_later:
        steps += [f"if mine >= {spec.hangs_at}:", f"    {hangs}"]
    elif spec.hangs_at is not None:
        steps.append(hangs)
    if spec.error is not None:
        error = "asyncio.CancelledError" if spec.error == "CancelledError" else spec.error
        raises = ['note("", "deliver.fail", number)', f'raise {error}("the sink failed")']
        steps += (
            [f"if mine % {spec.error_every} == 0:", *(f"    {one}" for one in raises)]
            if counts and spec.error_every > 1
            else raises
        )
    if pends:
        inner = (f"    {one}" for one in steps)
        steps = ["self.in_hand += 1", "try:", *inner, "finally:", "    self.in_hand -= 1"]
    always = spec.error is not None and not spec.error_every > 1
    last = [] if always or not numbers else ['note("", "deliver.end", number)']
    variables = [name for name, one in (("count", counts), ("in_hand", pends)) if one]
    body = [*lines, *steps, *last] or ["pass"]
    size = "" if spec.queue_max is None else f"max_queue_size={spec.queue_max}"
    behind = ["user_sink" if pends else "UserSink()", *([size] if size else ())]
    text = [
        "class UserSink:",
        *([f"    {' = '.join(variables)} = 0", ""] if variables else ()),
        "    async def emit(self, *, type, data):",
        *(f"        {line}" for line in body),
        "",
        "",
        *(("user_sink = UserSink()",) if pends else ()),
        f"sink = BackpressureAwareEventSink({', '.join(behind)})",
    ]
    if body == ["pass"]:  # the engine's own does as much: it writes to Python's log
        text = [f"sink = BackpressureAwareEventSink({size})"]
    if len(plan.runs) > 1:
        text += [
            "using_sink = []  # runs under way",
            "",
            "",
            "async def close_sink(run):",
            "    using_sink.remove(run)",
            "    if not using_sink:",
            *(f"        {line}" for line in _stopped(plan)),
        ]
    return "\n".join(text)


def _stopped(plan: Plan) -> list[str]:
    assert plan.sink is not None
    if plan.sink.error == "CancelledError":
        return [
            "# The drain lets out what the user's sink raises.",
            "with contextlib.suppress(Exception, asyncio.CancelledError):",
            f"    await sink.stop(drain=True, timeout={plan.sink.drain_s!r})",
        ]
    if plan.sink.error is None:
        return [f"await sink.stop(drain=True, timeout={plan.sink.drain_s!r})"]
    return [
        "with contextlib.suppress(Exception):  # the drain lets out what the user's sink raises",
        f"    await sink.stop(drain=True, timeout={plan.sink.drain_s!r})",
    ]


def opened(plan: Plan) -> list[str]:
    """Return the lines by which a run begins to use the queue."""
    if plan.sink is None:
        return []
    return ["await sink.start()", *(["using_sink.append({run})"] if len(plan.runs) > 1 else ())]


def closed(plan: Plan, check: str) -> list[str]:
    """Return the lines by which a run ends its use of the queue."""
    if plan.sink is None:
        return []
    ends = ["await close_sink({run})"] if len(plan.runs) > 1 else _stopped(plan)
    return [*ends, *(['note("", "account", account())'] if '"account"' in check else ())]


def waits(plan: Plan) -> bool:
    """Say whether the user's sink may have an event in hand for a while."""
    sink = plan.sink
    return sink is not None and (bool(sink.delivery_s) or sink.hangs_at is not None)


def account(engine: Probe, plan: Plan) -> str:
    """Return the source of `account`."""
    assert plan.sink is not None
    in_hand = " + user_sink.in_hand" if waits(plan) else ""
    most = engine.queue_default if plan.sink.queue_max is None else plan.sink.queue_max
    return f'''\
def account():
    """Offered, delivered, dropped, pending, most that may be pending, by the queue's metrics."""
    metrics, pending = sink.metrics, sink.queue_size{in_hand}
    emitted, dropped = metrics.emitted, metrics.dropped
    return (emitted + dropped, emitted - pending, dropped, pending, {most})'''


def identity(ids: tuple[str, ...]) -> str:
    """Return the expression for those of the ids that code is told which are looked at."""
    if ids == ("correlation",):
        told = "get_correlation_id() or ctx.request_id"
        return f'{{{{"correlation": id_names.get({told})}}}}'
    return "told(ctx)"


def told(engine: Probe, ids: tuple[str, ...]) -> str:
    """Return the source of `told`, as this graph's stages know their tenant."""
    values = {
        "run": "ctx.pipeline_run_id",
        "tenant": "ctx.org_id" if engine.legacy else "ctx.snapshot.org_id",
        "correlation": "get_correlation_id() or ctx.request_id",
    }
    pairs = ", ".join(f'"{name}": {values[name]}' for name in ids)
    return f'''\
def told(ctx):
    """For whom the code works, by what it is given and by the correlation id that was set."""
    ids = {{{pairs}}}
    return {{what: id_names.get(one, str(one)) for what, one in ids.items()}}'''
