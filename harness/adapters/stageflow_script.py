"""Stageflow's half of a stand-alone script: stages, graph, start and what a user reaches.

Longer than 400 lines since each word of the dialect has a variant for each graph, and for
versions that lack something. The text follows what the installed version offers: which context a
run is started with, which arguments that context needs, whether a reason can be given for a cancel.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from harness.adapters import stageflow_script_around as around
from harness.adapters import stageflow_script_streams as streams
from harness.kernel.plan import Plan, required_capabilities
from harness.kernel.program import Program
from harness.kernel.script import Dialect, Unrenderable, literal, render
from harness.kernel.script_layout import COLUMNS

if TYPE_CHECKING:
    from harness.adapters.stageflow_probe import Probe

__all__ = ["dialect", "milliseconds", "render_script"]

LINE_MAX = 90  # within a function
CONTEXT_MAX = 75  # within the call of a run
CHAIN_MAX = 48  # within the call that builds a graph
STAGES_APART = 4  # a pipeline of so many is made stage by stage

_IDS = ("pipeline_run_id", "request_id", "session_id", "user_id", "org_id", "interaction_id")

_ENDS = """\
def ending(output):
    kinds = {"ok": "ok", "fail": "fail", "skip": "skip", "cancel": "cancel_run"}
    return kinds[output.status.value]
"""

_CALL_TOOL = """\
async def call_tool(ctx, tool, work):
    async def handler(_input):
        return ToolOutput(success=True, data={"value": await work()})

    executor = AdvancedToolExecutor()
    executor.register(ToolDefinition(name=tool, action_type=tool, handler=handler))
    action = types.SimpleNamespace(id=uuid.uuid4(), type=tool, payload={})
    return await executor.execute(action, ctx)"""

_OFFERS = """\
def offers(ctx):
    names = ("timer", "data", "inputs", "snapshot", "event_sink")
    found = {name: getattr(ctx, name, None) is not None for name in names}
    found["has_correlation_id"] = hasattr(ctx, "correlation_id")
    found["has_run_id"] = ctx.pipeline_run_id is not None
    return found"""


def milliseconds(seconds: float) -> float:
    """Return whole milliseconds as an int where they are whole, as a user would write them."""
    value = seconds * 1000
    if value - value == 0 and abs(value - round(value)) < 1e-6:  # neither NaN nor infinite
        return round(value)
    return value


def render_script(engine: Probe, program: Program, plan: Plan, clause: str, check: str) -> str:
    """Return the script.

    Raises:
        Unrenderable: if this version lacks what the program needs, or there are no words for it.
    """
    lacks = required_capabilities(program, plan) - engine.capabilities
    if lacks:
        raise Unrenderable(", ".join(sorted(lacks)))
    return render(program, plan, dialect(engine, program, plan, check), clause, check)


def dialect(engine: Probe, program: Program, plan: Plan, check: str) -> Dialect:
    """Return Stageflow's words for this program, as the installed version spells them."""
    version = engine.version
    legacy = engine.legacy
    prepare, run = _prepare(engine, program, plan, check), "graph.run(ctx)"
    (context,) = (line for line in prepare if line.startswith("ctx = "))
    rest = tuple(line for line in prepare if line != context)
    made, again = context.removeprefix("ctx = "), any(re.search(r"\bctx\b", x) for x in rest)
    if len(made) < CONTEXT_MAX and made.startswith("PipelineContext") and not again:
        prepare, run = rest, f"graph.run({made})"
    inputs = any(run.inputs for run in plan.runs)
    reads = any(one.op in ("read", "mutate") for _, one in program.walk())
    ok = "return StageOutput.ok(value={value})"
    if legacy and reads:
        ok = (
            "output = StageOutput.ok(value={value})\nctx.data[{stage}] = output.data\nreturn output"
        )
    cancel = "return StageOutput.cancel(reason={message})"
    if legacy:
        reason = "{message}" if _takes_reason(engine) else ""
        cancel = f"ctx.mark_canceled({reason})\n{cancel}"
    return Dialect(
        install=f"stageflow-core=={version}" if version else "stageflow-core",
        imports=_imports(engine, program, plan, check),
        stage_head=_stage_head(),
        body_indent=8,
        ok=ok,
        fail="return StageOutput.fail(error={message})",
        skip=None if legacy else "return StageOutput.skip(reason={message})",
        cancel_run=cancel,
        read="ctx.data[{stage}].get({key})" if legacy else "ctx.inputs.get_from({stage}, {key})",
        emit=_emit(plan),
        chunk=streams.chunk(engine),
        refused=streams.refused(engine),
        partial=streams.partial(engine, program, plan),
        input="read_input(ctx, {key})" if legacy else "ctx.snapshot.metadata[{key}]",
        identity=around.identity(_told_ids(check)),
        account=None if plan.sink is None else "account()",
        dropped="sink.metrics.dropped",
        pending=f"sink.queue_size{' + user_sink.in_hand' if around.waits(plan) else ''}",
        log=None if engine.TenantContext is None else "log(ctx, {message})",
        plan_words=frozenset({"layers", "sink", "consumer", "inputs", "correlation", "retry"}),
        cleanup=None if legacy else "graph.register_cleanup({callback}, name={name})",
        own_name=None if legacy else "ctx.stage_name",
        context="offers(ctx)",
        call="await call_tool(ctx, {tool}, {work})",
        child="await run_child(ctx, {stage}, {name}, {graph})",
        child_well=_child_well(engine, program, plan, check),
        run_of=_run_of(engine, program, plan, check),
        ends=_ENDS,
        build=lambda p, classes: _build(engine, plan, p, classes),
        prepare=prepare,
        run=run,
        after=(*streams.after(plan, check), *around.closed(plan, check)),
        value="one.data",
        done='one.status == "completed"' if legacy else 'one.status.value == "ok"',
        kept="{}" if legacy else 'getattr(error, "results", {})',
        helpers={
            "run_names": "run_names = {}  # pipeline_run_id -> name of the run",
            "id_names": "id_names = {}  # id -> what it stands for",
            "told(": around.told(engine, _told_ids(check)),
            **around.layers(engine, plan, check, _run_of_layers(engine, program, plan, check)),
            **streams.helpers(program, plan, check),
            **around.retries(program),
            "only(": around.HELPERS["only("],
            "read_input": _READ_INPUT,
            "log(": _LOG.replace("{ORG}", "ctx.org_id" if legacy else "ctx.snapshot.org_id"),
            "INPUTS": _inputs(plan),
            "sink": "" if plan.sink is None else around.queue(engine, plan, check),
            "account(": "" if plan.sink is None else around.account(engine, plan),
            "enter": _enter(engine, has_bus=streams.needed(program, plan)),
            "call_tool": _CALL_TOOL,
            "offers": _OFFERS,
            "run_child(": _child(engine, program, plan, inputs, "run" in _told_ids(check)),
        },
    )


_LOG = """\
def log(ctx, message):
    tenant = TenantContext(org_id={ORG}, user_id=None, session_id=None)
    tenant.get_logger("script").info(message)"""

_READ_INPUT = """\
def read_input(ctx, key):
    given = ctx.data.get("run_inputs")
    # A child's context has data of its own, and its parent's to read.
    return (ctx.get_parent_data("run_inputs") if given is None else given)[key]"""


def _inputs(plan: Plan) -> str:
    rows = ", ".join(f"{literal(r.id)}: {literal(dict(r.inputs))}" for r in plan.runs)
    return f"INPUTS = {{{rows}}}"


def _emit(plan: Plan) -> str:
    if plan.sink is not None and plan.sink.policy == "block":
        ids = '"pipeline_run_id": str(ctx.pipeline_run_id), "request_id": str(ctx.request_id)'
        return f"await ctx.event_sink.emit(type={{type}}, data={{{{{ids}, **{{data}}}}}})"
    return "ctx.try_emit_event(type={type}, data={data})"


def _identifies(program: Program) -> bool:
    for _, one in program.walk():
        if one.op == "identify" or (one.op in ("cleanup", "thread") and one.args["identify"]):
            return True
        if one.op == "subpipeline" and _identifies(one.args["program"]):
            return True
    return False


def _takes_reason(engine: Probe) -> bool:
    return "reason" in inspect.signature(engine.PipelineContext.mark_canceled).parameters


def _takes_no_ids(engine: Probe) -> bool:
    parameters = inspect.signature(engine.PipelineContext).parameters
    return all(parameters[name].default is not inspect.Parameter.empty for name in _IDS)


def _uses(program: Program, *ops: str) -> bool:
    for _, one in program.walk():
        if one.op in ops:
            return True
        if one.op == "subpipeline" and _uses(one.args["program"], *ops):
            return True
    return False


def _imports(engine: Probe, program: Program, plan: Plan, check: str) -> tuple[str, ...]:
    names = {"StageOutput"}
    lines = []
    if engine.legacy:
        names |= {"PipelineContext", "StageGraph", "StageSpec"}
    else:
        names |= {"Pipeline", "StageKind"}
        if engine.pipeline_entry:
            names.add("PipelineContext")
        else:
            names |= {"PipelineTimer", "StageContext"}
            lines.append("from stageflow.context import ContextSnapshot, RunIdentity")
            lines.append("from stageflow.stages import StageInputs")
    if _own_grace(plan):
        lines.append("from stageflow.pipeline.dag import UnifiedStageGraph")
    if _uses(program, "subpipeline"):
        lines.append("from stageflow.pipeline.subpipeline import get_subpipeline_spawner")
        if not engine.legacy and not hasattr(engine.StageContext, "as_pipeline_context"):
            names.add("PipelineContext")
    if _uses(program, "log"):
        lines.append(f"from {engine.TenantContext.__module__} import TenantContext")
    if _uses(program, "call"):
        lines.append("from stageflow.tools import AdvancedToolExecutor, ToolDefinition")
        lines.append("from stageflow.tools.definitions import ToolOutput")
    tracing = ["get_correlation_id"] if _identifies(program) and "corr" in check else []
    tracing += ["set_correlation_id"] if any(run.correlation for run in plan.runs) else []
    if tracing:
        lines.append(f"from stageflow.observability.tracing import {', '.join(tracing)}")
    lines += around.imports(engine, program, plan, check)
    lines += streams.imports(program, plan)
    return _gathered(engine, names, lines)


def _gathered(engine: Probe, names: set[str], lines: list[str]) -> tuple[str, ...]:
    """Return import lines, with what the package itself offers as well in its own as far as that
    goes."""
    rest = []
    for line in sorted(lines):
        module, _, words = line.removeprefix("from ").partition(" import ")
        left = []
        for name in re.findall(r"\w+", words):
            if hasattr(engine.package, name) and len(_import({*names, name})) <= COLUMNS:
                names.add(name)
            else:
                left.append(name)
        rest += [_import(left, module)] if left else []
    return (_import(names), *rest)


def _import(names: Iterable[str], module: str = "stageflow") -> str:
    line = f"from {module} import {', '.join(sorted(names))}"
    if len(line) <= COLUMNS:
        return line
    return f"from {module} import ({''.join(f'{chr(10)}    {name},' for name in sorted(names))}\n)"


def _stage_head() -> tuple[str, ...]:
    return ("class {cls}:", "    {recorded}", "    async def execute(self, ctx):")


def _own_grace(plan: Plan) -> bool:
    return plan.cleanup_grace_s != Plan().cleanup_grace_s


def _build(engine: Probe, plan: Plan, program: Program, classes: Mapping[str, str]) -> list[str]:
    # Two stages of one name share an entry in `classes`: each gets the last one's class,
    # which is also what the engine keeps of them.
    chain = around.chain(engine, program, plan)
    if engine.legacy:
        specs = [
            f"StageSpec(name={literal(s.name)}, runner={classes[s.name]}"
            + (f", dependencies={literal(s.needs)})" if s.needs else ")")
            for s in program.stages
        ]
        layers = ", interceptors=interceptors" if chain else ""
        line = f"return StageGraph([{', '.join(specs)}]{layers})"
        if len(line) < LINE_MAX:
            return [*chain, line]
        return [*chain, f"specs = [{', '.join(specs)}]", f"return StageGraph(specs{layers})"]
    stages = [
        f".with_stage({literal(s.name)}, {classes[s.name]}, StageKind.TRANSFORM"
        + (f", dependencies={literal(s.needs)})" if s.needs else ")")
        for s in program.stages
    ]
    layers = "interceptors=interceptors" if chain else ""
    made = chain[-1].partition(" = ")[2] if chain else ""
    if chain and len(made) < CHAIN_MAX and not _own_grace(plan):
        chain, layers = chain[:-1], f"interceptors={made}"
    build = ".build()" if _own_grace(plan) else f".build({layers})"
    line = f"return Pipeline(){''.join(stages)}{build}"
    lines = ["return (", "    Pipeline()", *(f"    {one}" for one in (*stages, build)), ")"]
    if len(line) < LINE_MAX:
        lines = [line]
    elif len(stages) <= STAGES_APART:
        lines = [f"pipeline = {'pipeline' if i else 'Pipeline()'}{s}" for i, s in enumerate(stages)]
        last = f"return {lines[-1].removeprefix('pipeline = ')}{build}"
        lines = [*lines[:-1], last] if len(last) < LINE_MAX else [*lines, f"return pipeline{build}"]
    lines = [*chain, *lines]
    if not _own_grace(plan):
        return lines
    more = f", {layers}" if layers else ""
    grace = f"cleanup_timeout={plan.cleanup_grace_s!r}"
    lines = [line.replace("return ", "built = ", 1) for line in lines]
    return [*lines, f"return UnifiedStageGraph(built.stage_specs, {grace}{more})"]


def _prepare(engine: Probe, program: Program, plan: Plan, check: str) -> tuple[str, ...]:
    """Return the lines that make the context of a run, and note whose it is."""
    many, identifies = len(plan.runs) > 1, _identifies(program)
    told = _told_ids(check) if identifies else ()
    inputs = any(run.inputs for run in plan.runs)
    correlated = any(run.correlation for run in plan.runs)
    whole = engine.legacy or engine.pipeline_entry
    # A tenant is of interest where there is another, or where somebody asks for it.
    tenants = {run.tenant for run in plan.runs}
    tenant = len(tenants) > 1 or "tenant" in told or not _takes_no_ids(engine) or not whole
    bus = streams.needed(program, plan)
    short = whole and _creates(engine)
    # A run beside others, or with children, has an id of its own to be known by.
    named = many or identifies or _uses(program, "subpipeline")
    lines = streams.bus(program, plan) if bus else []
    pairs = ["pipeline_run_id=uuid.uuid4()"] if named or not short else []
    if correlated:
        rows = ", ".join(f"{literal(r.id)}: {literal(r.correlation)}" for r in plan.runs)
        lines.append(f"correlation = {{{rows}}}[{{run}}]")
        lines.append("request = uuid.uuid5(uuid.NAMESPACE_DNS, correlation)")
        lines.append("set_correlation_id(request)")
    if whole and not short and not _takes_no_ids(engine):
        request = "request" if correlated else "uuid.uuid4()"
        pairs += [f"request_id={request}", "session_id=None", "user_id=None"]
        pairs.append("interaction_id=None")
    elif correlated:
        pairs.append("request_id=request")
    if tenant:
        pairs.append("org_id=uuid.uuid5(uuid.NAMESPACE_DNS, {tenant})")
    if whole:
        data = around.data_of(plan, _timeout(plan))
        more = ['"run": {run}'] if _carries(engine, program, plan, check) else []
        if inputs and engine.legacy:
            more.append('"run_inputs": INPUTS[{run}]')
        if engine.legacy:
            data = ", ".join([data, *more] if data else more)
        elif inputs:
            pairs.append(
                f"metadata={{{more[0]}, **INPUTS[{{run}}]}}" if more else "metadata=INPUTS[{run}]"
            )
        elif more:
            pairs.append(f"metadata={{{more[0]}}}")
        if data:
            pairs.append(f"data={{{data}}}")
        if plan.sink is not None:
            pairs.append("event_sink=sink")
        pairs += [streams.PORTS] if bus else []
        name = "PipelineContext.create" if short else "PipelineContext"
        if len(f"ctx = {name}({', '.join(pairs)})") > LINE_MAX and short:
            words = [one.partition("=") for one in pairs]
            ids = ", ".join(f"{literal(k)}: {v}" for k, _, v in words if k in _IDS)
            lines.append(f"ids = {{{ids}}}")
            pairs = ["**ids", *(f"{k}={v}" for k, _, v in words if k not in _IDS)]
        lines.append(f"ctx = {name}({', '.join(pairs)})")
    else:
        lines.append(f"ids = RunIdentity({', '.join(pairs)})")
        given = ", metadata=INPUTS[{run}]" if inputs else ""
        sink = ", event_sink=sink" if plan.sink is not None else ""
        sink += f", {streams.PORTS}" if bus else ""
        lines.append(f"ctx = enter(ContextSnapshot(run_id=ids{given}){sink})")
    if many and not _carries(engine, program, plan, check):
        lines.append("run_names[ctx.pipeline_run_id] = {run}")
    org = "ctx.org_id" if whole else "ctx.snapshot.org_id"
    lines += ["id_names[ctx.pipeline_run_id] = {run}"] if "run" in told else []
    lines += [f"id_names[{org}] = {{tenant}}"] if "tenant" in told else []
    lines += ["id_names[request] = correlation"] if "correlation" in told and correlated else []
    return (*lines, *around.opened(plan), *streams.before(plan))


def _creates(engine: Probe) -> bool:
    """Say whether a context may be had without naming its ids."""
    return hasattr(engine.PipelineContext, "create")


def _carries(engine: Probe, program: Program, plan: Plan, check: str) -> bool:
    """Say whether the context of each of several runs carries its name, for its stages to read."""
    several, whole = len(plan.runs) > 1, engine.legacy or engine.pipeline_entry
    named = _identifies(program) and "run" in _told_ids(check)
    return several and whole and not _uses(program, "subpipeline") and not named


def _told_ids(check: str) -> tuple[str, ...]:
    """Return which ids a check looks at, of those that code is told."""
    return tuple(name for name in ("run", "tenant", "correlation") if f'"{name}"' in check)


def _run_of_layers(engine: Probe, program: Program, plan: Plan, check: str) -> str:
    if not _carries(engine, program, plan, check):
        return "run_names[ctx.pipeline_run_id]"
    return "ctx.data['run']" if engine.legacy else "ctx.metadata['run']"


def _run_of(engine: Probe, program: Program, plan: Plan, check: str) -> str:
    if not _carries(engine, program, plan, check):
        return "run_names[ctx.pipeline_run_id]"
    return "ctx.data['run']" if engine.legacy else "ctx.snapshot.metadata['run']"


def _timeout(plan: Plan) -> str | None:
    if plan.stage_timeout_s is None:
        return None
    value = milliseconds(plan.stage_timeout_s)
    return repr(value) if value - value == 0 else f'float("{value}")'


def _enter(engine: Probe, *, has_bus: bool) -> str:
    """Return the context that versions take whose graph runs on a stage's context only."""
    if engine.legacy or engine.pipeline_entry:
        return ""
    ports, given = (", ports=None", ", ports=ports") if has_bus else ("", "")
    return f"""\
def enter(snapshot, event_sink=None{ports}):
    return StageContext(
        snapshot=snapshot,
        inputs=StageInputs(snapshot=snapshot{given}),
        stage_name="entry",
        timer=PipelineTimer(),
        event_sink=event_sink,
    )"""


def _child(engine: Probe, program: Program, plan: Plan, inputs: bool, identifies: bool) -> str:
    """Return the source of what starts a child run, as short as what its program asks allows."""
    many, has_bus = len(plan.runs) > 1, streams.needed(program, plan)
    known = ""
    if many:
        known += "\n        run_names[child.pipeline_run_id] = run_names[ctx.pipeline_run_id]"
    if identifies:
        run = "id_names.get(ctx.pipeline_run_id)"
        known += f'\n        id_names[child.pipeline_run_id] = f"{{{run}}}/{{name}}"'
    check = ""
    if engine.legacy:
        parent = "ctx"
        if _child_may_fail(program):
            check = """
        for one in results.values():
            if one.status == "failed":
                raise RuntimeError(f"stage {one.name} of the child failed: {one.error}")"""
    else:
        parent = "ctx.as_pipeline_context()"
        if not hasattr(engine.StageContext, "as_pipeline_context"):
            ids = ", ".join(f"{name}=ctx.snapshot.{name}" for name in _IDS)
            parent = f"PipelineContext({ids}, event_sink=ctx.event_sink)"
    entry = "child"
    if not engine.legacy and not engine.pipeline_entry:
        names = ("pipeline_run_id", "request_id", "org_id")
        ids = ", ".join(f"{name}=child.{name}" for name in names)
        given = ", metadata=ctx.snapshot.metadata" if inputs else ""
        ports = "\n            ports=ctx.inputs.ports," if has_bus else ""
        entry = f"""enter(
            ContextSnapshot(run_id=RunIdentity({ids}){given}),
            event_sink=child.event_sink,{ports}
        )"""
    runner, runs = "graph.run", ""
    if known or check or entry != "child":
        runner = "runner"
        runs = f"""
    async def runner(child):{known}
        results = await graph.run({entry}){check}
        return results
"""
        if not check:
            runs = runs.replace("results = await", "return await").replace(
                "\n        return results", ""
            )
    return f'''\
async def run_child(ctx, stage, name, graph):{runs}
    ids = {{"correlation_id": uuid.uuid4(), "parent_stage_id": stage}}
    spawn = get_subpipeline_spawner().spawn
    result = await spawn(pipeline_name=name, ctx={parent}, runner={runner}, **ids)
    return "ok" if result.success else "failed"'''


def _child_well(engine: Probe, program: Program, plan: Plan, check: str) -> tuple[str, ...]:
    """Return how a child run is started whose results nobody looks at, as its user would."""
    named = len(plan.runs) > 1 or "run" in _told_ids(check)
    if named or (engine.legacy and _child_may_fail(program)):
        return ()
    if not engine.legacy and not (
        engine.pipeline_entry and hasattr(engine.StageContext, "as_pipeline_context")
    ):
        return ()
    parent = "ctx" if engine.legacy else "ctx.as_pipeline_context()"
    return (
        'ids = {{"correlation_id": uuid.uuid4(), "parent_stage_id": {stage}}}',
        "spawn = get_subpipeline_spawner().spawn",
        f"result = await spawn(pipeline_name={{name}}, ctx={parent}, runner={{graph}}.run, **ids)",
        "result.success",
    )


def _child_may_fail(program: Program) -> bool:
    """Say whether a stage of a subpipeline may fail by itself, which this graph only returns."""
    fails = ("fail", "raise", "flaky", "call", "allocate", "cancel_run", "read", "mutate")
    for _, one in program.walk():
        if one.op != "subpipeline":
            continue
        child: Program = one.args["program"]
        if _uses(child, *fails) or any(s.args.get("fails") for _, s in child.walk()):
            return True
    return False
