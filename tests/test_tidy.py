"""The style of the project as tests: layers, lengths, names, opening words.

MAY_IMPORT is the architecture. A module that is missing there fails, so a new one is
placed before it is written into.
"""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "uringloop"

LINES_PER_FILE_MAX = 500
LINES_PER_FUNCTION_MAX = 70
LINES_PER_FUNCTION_MEDIAN = 8
LINES_PER_FUNCTION_P90 = 30
LINES_PER_C_FUNCTION_MAX = 60

# Who may import whom, both named from the package on; what a .pxd has of another counts too.
# The order is from top to bottom: no module may import one above it.
MAY_IMPORT = {
    "__main__": {"command_line", "doctor"},
    "command_line": {"", "colours", "doctor", "program", "proxy.command", "proxy.errors"},
    "doctor": {"", "colours", "probe", "driver.features"},
    "program": {"running"},
    "proxy.command": {
        "proxy",
        "proxy.addresses",
        "proxy.configuration",
        "proxy.log",
        "proxy.proxy_protocol",
        "proxy.starting",
        "proxy.tls",
        "proxy.upstreams",
    },
    "proxy.starting": {
        "proxy",
        "proxy.addresses",
        "proxy.configuration",
        "proxy.errors",
        "proxy.listening",
        "proxy.log",
        "proxy.serving",
        "proxy.shared_status",
        "proxy.status",
        "proxy.supervisor",
    },
    "proxy.supervisor": {
        "proxy.back_off",
        "proxy.errors",
        "proxy.listening",
        "proxy.log",
        "proxy.serving",
        "proxy.shared_status",
    },
    "proxy.shared_status": {"proxy.counters", "proxy.serving"},
    "proxy.status": {"proxy.addresses", "proxy.counters"},
    "proxy.serving": {
        "",
        "proxy.configuration",
        "proxy.counters",
        "proxy.errors",
        "proxy.log",
        "proxy.server",
    },
    "proxy.server": {
        "proxy.configuration",
        "proxy.connection",
        "proxy.counters",
        "proxy.listening",
        "proxy.upstreams",
        "servers",
    },
    "proxy.connection": {
        "proxy.addresses",
        "proxy.configuration",
        "proxy.log",
        "proxy.proxy_protocol",
        "proxy.tls",
        "proxy.upstreams",
        "relay",
        "relay_base",
    },
    "proxy.configuration": {"proxy.addresses"},
    "proxy.upstreams": {"proxy.addresses", "proxy.back_off"},
    "proxy.listening": {"proxy.addresses", "proxy.errors", "shared_port"},
    "proxy.tls": {"proxy.errors"},
    "proxy.addresses": {"proxy.errors"},
    "proxy.back_off": set(),
    "proxy.counters": set(),
    "proxy.errors": set(),
    "proxy.log": set(),
    "proxy.proxy_protocol": set(),
    "proxy": set(),
    "prometheus": {"", "metrics"},
    "": {
        "_interpreter",
        "_rendering",
        "async_files.opening",
        "files",
        "loop",
        "metrics",
        "probe",
        "relay",
        "relay_base",
        "relay_result",
        "running",
        "servers",
        "shared_port",
    },
    "shared_port": set(),
    "files": {"async_files.opening", "async_files.requests", "async_files.threads"},
    "async_files.opening": {
        "async_files.binary",
        "async_files.buffer",
        "async_files.modes",
        "async_files.requests",
        "async_files.text",
        "async_files.text_format",
        "async_files.threads",
    },
    "async_files.text": {
        "async_files.binary",
        "async_files.buffer",
        "async_files.file_base",
        "async_files.modes",
        "async_files.text_format",
    },
    "async_files.text_format": set(),
    "async_files.binary": {"async_files.file_base"},
    "async_files.file_base": {"async_files.buffer", "async_files.modes"},
    "async_files.modes": set(),
    "async_files.buffer": {"async_files.sizes", "async_files.threads"},
    "async_files.requests": {
        "async_files.sizes",
        "async_files.threads",
        "driver.binding",
        "driver.driver",
        "driver.features",
        "driver.in_flight",
    },
    "async_files.threads": set(),
    "async_files.sizes": set(),
    "async_files": set(),
    "relay": {"relay_base", "relay_engine", "relay_streams", "transports.stream"},
    "relay_engine": {
        "core",
        "driver.binding",
        "driver.in_flight",
        "driver.rings",
        "errors",
        "relay_base",
        "relay_result",
        "transports.stream",
    },
    "relay_streams": {"relay_base", "relay_result"},
    "relay_base": {"relay_result"},
    "relay_result": set(),
    "running": {"loop"},
    "loop": {
        "plain_connections",
        "addresses",
        "asyncio_names",
        "core",
        "driver.choose",
        "driver.driver",
        "errors",
        "handles",
        "metrics",
        "processes",
        "sendfile",
        "servers",
        "signals",
        "signatures",
        "sockets",
        "tls",
        "transports",
        "transports.datagram",
        "transports.pipes",
        "transports.stream",
        "unix_sockets",
        "watches",
    },
    "asyncio_names": set(),
    "metrics": {"driver.binding", "driver.driver"},
    "processes": {"driver.binding", "driver.in_flight"},
    "unix_sockets": {"servers", "signatures"},
    "servers": {
        "core",
        "driver.binding",
        "driver.in_flight",
        "driver.rings",
        "errors",
        "transports.socket_info",
        "transports.stream",
    },
    "tls": {"transports.stream"},
    "sendfile": {"lanes", "socket_operations"},
    "sockets": {
        "addresses",
        "core",
        "driver.binding",
        "errors",
        "lanes",
        "readiness",
        "socket_operations",
    },
    "socket_operations": {
        "addresses",
        "core",
        "driver.binding",
        "driver.rings",
        "errors",
        "lanes",
    },
    "lanes": {"core", "driver.binding", "driver.in_flight"},
    "plain_connections": {"addresses", "readiness"},
    "readiness": {
        "core",
        "driver.binding",
        "driver.in_flight",
        "driver.rings",
        "errors",
        "transports.socket_info",
    },
    "watches": {"driver.binding", "driver.in_flight", "errors", "handles"},
    "transports.datagram": {
        "driver.binding",
        "driver.rings",
        "errors",
        "stream_state",
        "transports",
        "transports.datagram_receiving",
        "transports.flow_control",
    },
    "transports.datagram_receiving": {
        "addresses",
        "driver.binding",
        "driver.rings",
        "errors",
        "stream_state",
        "transports.socket_info",
        "transports.transport_base",
    },
    "transports.pipes": {
        "driver.binding",
        "driver.rings",
        "errors",
        "stream_state",
        "transports.receiving",
        "transports.stream",
    },
    "transports.stream": {
        "driver.binding",
        "driver.rings",
        "errors",
        "stream_state",
        "transports",
        "transports.flow_control",
        "transports.peer_watch",
        "transports.receiving",
        "transports.stream_base",
        "transports.uncopied_send",
        "write_queue",
    },
    "transports.receiving": {
        "context_calls",
        "driver.binding",
        "driver.rings",
        "errors",
        "stream_state",
        "transports",
        "transports.flow_control",
        "transports.stream_base",
    },
    "transports.stream_base": {
        "driver.binding",
        "stream_state",
        "transports.socket_info",
        "transports.transport_base",
        "write_queue",
    },
    "transports.transport_base": {
        "core",
        "driver.binding",
        "driver.in_flight",
        "driver.rings",
        "stream_state",
        "transports",
        "transports.flow_control",
    },
    "transports.uncopied_send": {"driver.in_flight"},
    "transports.flow_control": set(),
    "transports.peer_watch": {"driver.binding", "driver.in_flight", "errors"},
    "transports.socket_info": {"addresses", "driver.rings"},
    "transports": set(),
    "core": {"driver.in_flight", "driver.rings", "handles", "signatures", "timer_queue"},
    "signals": {"handles"},
    "timer_queue": {"handles"},
    "handles": {"context_calls", "errors"},
    "probe": {"_rendering", "driver.choose", "driver.features"},
    "driver.driver": {
        "driver.binding",
        "driver.choose",
        "driver.features",
        "driver.in_flight",
        "driver.rings",
    },
    "driver.choose": {"driver.features"},
    "driver.features": {"driver.binding"},
    "driver.in_flight": {"driver.rings"},
    "driver.rings": {"driver.binding"},
    "driver.binding": {"driver._engine"},
    "driver": set(),
    "stream_state": set(),
    "context_calls": set(),
    "write_queue": set(),
    "addresses": set(),
    "signatures": set(),
    "colours": set(),
    "errors": set(),
    "_interpreter": set(),
    "_rendering": set(),
    "driver._engine": set(),
}
ONLY_IMPORTER = {"driver._engine": "driver.binding"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def python_files() -> list[Path]:
    folders = (PACKAGE, ROOT / "tests", ROOT / "bench")
    found = [path for folder in folders for path in folder.rglob("*.py")]
    return sorted([*found, *ROOT.glob("*.py")])


def c_files() -> list[Path]:
    folders = (PACKAGE / "driver" / "engine", ROOT / "bench" / "native", ROOT / "tests" / "faults")
    return sorted(path for folder in folders for path in folder.glob("*.[ch]"))


def cython_files() -> list[Path]:
    return sorted([*PACKAGE.rglob("*.pyx"), *PACKAGE.rglob("*.pxd")])


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def per_file(files: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", files, ids=shown)


def module_name(path: Path) -> str:
    """uringloop/driver/rings.py is "driver.rings", the package itself ""."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def existing_modules() -> set[str]:
    return {module_name(path) for path in PACKAGE.rglob("*.py")} | {"driver._engine"}


def own_imports(path: Path) -> set[str]:
    """Modules of the package that `path` imports."""
    if path.suffix != ".py":
        found = re.findall(r"^\s*(?:from|c?import)\s+uringloop\.([\w.]+)", path.read_text(), re.M)
        return set(found)
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.update(_imported_from(node))
    own = (name for name in imported if name.split(".")[0] == "uringloop")
    return {name.partition(".")[2] for name in own}


def _imported_from(node: ast.ImportFrom) -> Iterator[str]:
    assert node.level == 0, "relative import: name the module in full"
    for alias in node.names:
        as_module = f"{node.module}.{alias.name}"
        is_module = as_module.partition(".")[2] in existing_modules()
        yield as_module if is_module else str(node.module)


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Function):
            yield node


def line_count(function: Function) -> int:
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


@per_file([*PACKAGE.rglob("*.py"), *cython_files()])
def test_a_module_imports_only_what_its_layer_may(path: Path):
    assert own_imports(path) <= MAY_IMPORT[module_name(path)]


def test_the_table_has_no_upward_import():
    order = list(MAY_IMPORT)
    upward = [
        (name, imported)
        for name, allowed in MAY_IMPORT.items()
        for imported in allowed
        if imported in order and order.index(imported) < order.index(name)
    ]
    assert upward == []
    assert set(TopologicalSorter(MAY_IMPORT).static_order()) == set(MAY_IMPORT)


@pytest.mark.parametrize(("module", "importer"), ONLY_IMPORTER.items())
def test_the_engine_has_one_door(module: str, importer: str):
    importers = {
        module_name(path)
        for path in [*PACKAGE.rglob("*.py"), *cython_files()]
        if module in own_imports(path)
    }
    assert importers <= {importer}


@per_file([*python_files(), *c_files(), *cython_files()])
def test_a_file_fits_into_the_head(path: Path):
    assert len(path.read_text().splitlines()) <= LINES_PER_FILE_MAX


@per_file(python_files())
def test_a_function_fits_onto_a_screen(path: Path):
    long = {
        function.name: line_count(function)
        for function in functions(path)
        if line_count(function) > LINES_PER_FUNCTION_MAX
    }
    assert long == {}


def test_most_functions_of_the_package_are_short():
    counts = [line_count(each) for path in PACKAGE.rglob("*.py") for each in functions(path)]
    assert statistics.median(counts) <= LINES_PER_FUNCTION_MEDIAN
    assert statistics.quantiles(counts, n=10)[-1] <= LINES_PER_FUNCTION_P90


@per_file(python_files())
def test_a_module_says_what_it_is(path: Path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree) or not tree.body


@per_file(c_files())
def test_a_c_file_says_what_it_is(path: Path):
    assert path.read_text().startswith("/*")


@per_file(c_files())
def test_a_c_function_is_short(path: Path):
    long = {name: count for name, count in c_functions(path) if count >= LINES_PER_C_FUNCTION_MAX}
    assert long == {}


def c_functions(path: Path) -> Iterator[tuple[str, int]]:
    """(name, lines), by the layout: a function begins and ends in column 0."""
    begun: list[str] = []
    for line in path.read_text().splitlines():
        if line.startswith("}"):
            name = re.match(r"(?!struct \w+ {|enum|union|typedef).*?(\w+)\(", " ".join(begun))
            if name:
                yield name[1], len(begun) + 1
            begun = []
        elif re.match(r"[A-Za-z_]", line) and not line.endswith((";", ":")):
            begun = [line]
        elif begun:
            begun.append(line)


def test_c_functions_are_found():
    for path in c_files():
        if path.suffix == ".c":
            assert list(c_functions(path)), shown(path)


@per_file([*python_files(), *c_files(), *cython_files()])
def test_a_doubt_is_an_issue_not_a_comment(path: Path):
    words = ("TO" + "DO", "FIX" + "ME", "X" * 3)
    assert [word for word in words if re.search(rf"\b{word}\b", path.read_text())] == []


def test_no_file_is_called_utils():
    assert [shown(path) for path in python_files() if path.stem in ("utils", "helpers")] == []
