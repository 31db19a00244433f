"""Viewers: what their servers give, to whom, and how long."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import onnx
import psutil
import pytest
from helpers_building import start_python, wait_until
from models import FASHION_CNN, MODELS, save, save_external
from onnx import helper

from workbench import view
from workbench.errors import ModelError, ViewError
from workbench.model import Model, load_model
from workbench.openings import edit
from workbench.view.package import folder_of
from workbench.view.subject import subject_of
from workbench.view.viewer import Viewer, elsewhere

VIEWERS = (view.netron, view.visualdl)
Show = Callable[..., Viewer]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


def ask(
    viewer: Viewer, path: str | None = None, *, method: str = "GET", headers: Mapping[str, str] | None = None
) -> Answer:
    """path: behind the secret, or a whole one if it begins with a slash. headers: in place of the usual Host."""
    connection = http.client.HTTPConnection("127.0.0.1", viewer.server.port, timeout=60)
    whole = urlsplit(viewer.url).path if path is None else path if path[:1] == "/" else f"/{viewer.server.token}/{path}"
    connection.putrequest(method, whole, skip_host=headers is not None)
    for name, value in (headers or {}).items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    answer = Answer(response.status, response.headers, response.read())
    connection.close()
    return answer


def body(viewer: Viewer, path: str | None = None) -> bytes:
    answer = ask(viewer, path)
    assert answer.status == 200, (path, answer.status)
    return answer.body


def shown(viewer: Viewer) -> bytes:
    """The model that the viewer's page gets."""
    if "VisualDL" in viewer.title:
        return body(viewer, "api/graph/static_graph")
    (file,) = re.findall(r'<meta name="file" content="/([^"]+)">', body(viewer).decode())
    return body(viewer, file)


def chain(path: Path, nodes: int, name: str = "n{}") -> Path:
    steps = [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"], name=name.format(i)) for i in range(nodes)]
    ends = [helper.make_tensor_value_info(f"t{i}", onnx.TensorProto.FLOAT, [1]) for i in (0, nodes)]
    graph = helper.make_graph(steps, "chain", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def paddle_program(path: Path, ops: int) -> Path:
    """As much of a Paddle ProgramDesc as holds operators: `blocks` is field 1, `ops` field 4 of a block, `type` 3."""

    def message(field: int, content: bytes) -> bytes:
        size, length = b"", len(content)
        while length > 127:
            size, length = size + bytes([length & 127 | 128]), length >> 7
        return bytes([field << 3 | 2]) + size + bytes([length]) + content

    path.write_bytes(message(1, b"\x08\x00\x10\x00" + message(4, message(3, b"relu")) * ops))
    return path


@pytest.fixture(scope="module", params=VIEWERS, ids=["netron", "visualdl"])
def show(request: pytest.FixtureRequest) -> Show:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def viewer(show: Show, fashion_cnn: Model) -> Iterator[Viewer]:
    """For those who only ask."""
    with show(fashion_cnn) as viewer:
        yield viewer


# ---- what is shown


def test_the_model_is_shown_as_it_was_edited(show: Show, fashion_cnn: Model) -> None:
    edited = edit(fashion_cnn, "batch=4")
    with show(edited) as viewer:
        assert shown(viewer) == edited.to_bytes() != fashion_cnn.to_bytes()
        assert "batch=4" in viewer.title


def test_visualdl_gets_a_name_for_every_node(tmp_path: Path) -> None:
    """Its page fails at nodes without."""
    with view.visualdl(chain(tmp_path / "nameless.onnx", 3, name="")) as viewer:
        assert all(node.name for node in onnx.load_from_string(shown(viewer)).graph.node)


def test_a_file_is_shown_as_it_lies_on_disk(tmp_path: Path) -> None:
    path = paddle_program(tmp_path / "my model #1.pdmodel", 3)
    for show in VIEWERS:
        with show(str(path)) as viewer:
            assert shown(viewer) == path.read_bytes()
            assert viewer.title.startswith("my model #1.pdmodel in ")


def test_two_models_are_shown_at_once(show: Show, fashion_cnn: Model, model: Model) -> None:
    with show(fashion_cnn) as first, show(model) as second:
        counts = [len(onnx.load_from_string(shown(viewer)).graph.node) for viewer in (first, second, first)]
        assert counts == [len(fashion_cnn.nodes), len(model.nodes), len(fashion_cnn.nodes)]
        assert first.server.token != second.server.token
        assert ask(second, urlsplit(first.url).path).status == 404


def test_a_file_that_went_away_is_told(tmp_path: Path) -> None:
    path = paddle_program(tmp_path / "gone.pdmodel", 1)
    with view.netron(path) as viewer:
        path.unlink()
        assert ask(viewer, "data/gone.pdmodel").status == 404


def test_every_file_that_a_page_names_is_there(viewer: Viewer) -> None:
    page = body(viewer).decode()
    found = re.findall(r'(?:src|href)="?([^"\s>]+?)"?[\s>]', page)
    names = [name for name in found if not name.startswith(("#", "javascript:"))]
    assert len(names) > 5
    base = urlsplit(viewer.server.url).path
    missing = [name for name in names if ask(viewer, name if name.startswith("/") else base + name).status != 200]
    assert missing == []


# ---- who may ask, and what


def test_it_listens_on_this_machine_only(viewer: Viewer) -> None:
    ports = [c for c in psutil.Process().net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert {c.laddr.ip for c in ports if c.laddr.port == viewer.server.port} == {"127.0.0.1"}


@pytest.mark.parametrize(
    "path", ["/", "/index.html", "/favicon.ico", "/app/graph/static_graph", "/data/fashion_cnn.onnx"]
)
def test_nothing_is_given_without_the_secret(viewer: Viewer, path: str) -> None:
    token = viewer.server.token
    assert len(token) >= 43  # 256 bits
    for wrong in (path, f"/{token[:-1]}{path}", f"/{token}x{path}", f"/{token.swapcase()}{path}", f"/x/{token}{path}"):
        assert ask(viewer, wrong).status == 404, wrong


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "[::1]:{port}", ""]
)
def test_another_name_for_this_machine_is_refused(viewer: Viewer, host: str) -> None:
    assert ask(viewer, headers={"Host": host.format(port=viewer.server.port)}).status == 403


def test_a_request_without_a_host_is_refused(viewer: Viewer) -> None:
    assert ask(viewer, headers={}).status == 403


def test_localhost_is_this_machine(viewer: Viewer) -> None:
    assert ask(viewer, headers={"Host": f"localhost:{viewer.server.port}"}).status == 200


OUTSIDE = [
    "../", "..", "%2e%2e/", "data/..%2f..%2fetc%2fpasswd", "data/../server.py", "data//etc/passwd", "/etc/passwd",
    "server.py", "__init__.py", "onnx.py", "..%5c..%5cserver.py", "data/", "data/secret.txt", "data/%73ecret.txt",
    "data/model.onnx/../secret.txt", "api/../../app.py", "dist/index.html", "./index.js%00.html",
]  # fmt: skip


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_other_file_can_be_read(show: Show, tmp_path: Path, path: str) -> None:
    model = save(tmp_path / "model.onnx", "(float[4] x) => (float[4] y) { [relu] y = Relu(x) }")
    (tmp_path / "secret.txt").write_text("secret")
    with show(model) as viewer:
        shown(viewer)
        target = f"/{viewer.server.token}{path}" if path.startswith("/") else path
        response = ask(viewer, target)
        assert response.status in (204, 404)
        assert response.body in (b"", b"there is nothing here")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"])
def test_only_reading_is_possible(viewer: Viewer, method: str) -> None:
    assert ask(viewer, method=method).status == 501


def test_head_tells_the_length_and_gives_no_body(viewer: Viewer) -> None:
    response = ask(viewer, method="HEAD")
    assert int(response.headers["Content-Length"]) == len(body(viewer)) > 0
    assert response.body == b""


VISUALDLS_OWN = [
    "api/runs", "api/tags", "api/logs", "api/graph/upload", "api/graph/graph", "api/graph/manipulate",
    "api/profiler/runs", "api/inference/onnx2paddle", "api/fastdeploy/get_directory",
    "api/fastdeploy/fastdeploy_client/app", "alive", "static/trace_viewer_full.html", "static/trace_embedding.html",
]  # fmt: skip


@pytest.mark.parametrize("path", VISUALDLS_OWN)
def test_of_visualdls_server_only_the_static_graph_is_left(fashion_cnn: Model, path: str) -> None:
    with view.visualdl(fashion_cnn) as viewer:
        assert ask(viewer, path).status == 404


# ---- nothing goes outside


def test_the_policy_lets_a_page_ask_its_own_server_only(viewer: Viewer) -> None:
    headers = ask(viewer).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'self'"
    allowed = {source for name, sources in policy.items() if name != "sandbox" for source in sources.split()}
    assert allowed <= {"'self'", "'none'", "'unsafe-inline'", "blob:", "data:"}
    assert not {"script-src", "connect-src", "worker-src"} & set(policy)  # as default-src
    assert set(policy["sandbox"].split()) == {"allow-scripts", "allow-same-origin", "allow-downloads"}
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in headers
    assert "Set-Cookie" not in headers


def test_a_refusal_has_the_policy_too(viewer: Viewer) -> None:
    assert "sandbox" in ask(viewer, "/").headers["Content-Security-Policy"]


def test_netrons_page_does_not_expire_report_or_lead_outside(fashion_cnn: Model) -> None:
    with view.netron(fashion_cnn) as viewer:
        page = body(viewer).decode()
        assert re.findall(r'<meta name="version" content="([^"]*)">', page) == ["0.0.0"]
        assert 'name="date"' not in page
        assert not re.findall(r'(?:href|src)="(?:https?:)?//[^"]*"', page)
        assert re.findall(r'<script[^>]*src="([^"]*)"', page) == ["workbench.js", "index.js"]
        assert "consent=1" in body(viewer, "workbench.js").decode()


def test_visualdls_page_has_no_script_inside_and_telemetry_off(fashion_cnn: Model) -> None:
    with view.visualdl(fashion_cnn) as viewer:
        page = body(viewer).decode()
        assert not re.findall(r"<script[^>]*>[^<]", page)
        assert re.findall(r'<script\b[^>]*src="?([^"\s>]*)', page)[0].endswith("/workbench.js")
        assert 'SNOWPACK_PUBLIC_TELEMETRY_ID=""' in body(viewer, "__snowpack__/env.local.js").decode()
        assert "{{" not in page + body(viewer, "__snowpack__/env.local.js").decode()


def test_the_packages_are_not_imported_and_write_nothing_at_home(tmp_path: Path) -> None:
    code = """
import os, sys
os.environ["HOME"] = sys.argv[2]
from workbench import view
viewers = [view.netron(sys.argv[1]), view.visualdl(sys.argv[1])]
print(*sorted({"netron", "visualdl", "flask"} & set(sys.modules)), os.listdir(sys.argv[2]))
"""
    process = start_python(code, FASHION_CNN, tmp_path)
    out, errors = process.communicate(timeout=60)
    assert (out.strip(), errors) == ("[]", "")


# ---- how long


def test_stop_closes_the_port(show: Show, fashion_cnn: Model) -> None:
    viewer = show(fashion_cnn)
    url, port = viewer.url, viewer.server.port
    viewer.stop()
    viewer.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=60)
    assert "stopped" in repr(viewer)
    assert url not in viewer._repr_mimebundle_()["text/html"]


def test_a_killed_kernel_leaves_no_process_and_no_port() -> None:
    code = """
import sys
from workbench import view
viewers = [view.netron(sys.argv[1]), view.visualdl(sys.argv[1])]
print(*(viewer.server.port for viewer in viewers), flush=True)
sys.stdin.read()
"""
    kernel = start_python(code, FASHION_CNN)
    assert kernel.stdout is not None
    ports = [int(port) for port in kernel.stdout.readline().split()]
    assert len(ports) == 2
    for port in ports:
        socket.create_connection(("127.0.0.1", port), timeout=60).close()
    assert psutil.Process(kernel.pid).children(recursive=True) == []
    kernel.kill()
    kernel.communicate()

    def closed(port: int) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    wait_until(lambda: all(map(closed, ports)), "the ports are closed")


def test_a_kernel_ends_at_once_with_viewers_open() -> None:
    code = "import sys; from workbench import view; v = [view.netron(sys.argv[1]), view.visualdl(sys.argv[1])]"
    process = start_python(code, FASHION_CNN)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0


# ---- in the notebook


def test_the_frame_has_a_title_the_address_and_the_height(show: Show, fashion_cnn: Model) -> None:
    with show(fashion_cnn, height=321) as viewer:
        html = viewer._repr_mimebundle_()["text/html"]
        assert f"<iframe src='{viewer.url}'" in html and "height:321px" in html
        assert "fashion_cnn.onnx in " in html
        viewer.height = 500
        assert "height:500px" in viewer._repr_mimebundle_()["text/html"]
        assert viewer.url in viewer._repr_mimebundle_()["text/plain"]


def test_a_file_name_is_text_and_no_html(tmp_path: Path) -> None:
    path = paddle_program(tmp_path / "<img src=x onerror='alert(1)'>\".pdmodel", 1)
    for show in VIEWERS:
        with show(path) as viewer:
            assert "<img" not in viewer._repr_mimebundle_()["text/html"]
            assert "<img" not in body(viewer).decode()
            assert shown(viewer) == path.read_bytes()


def test_netron_asks_for_patience_with_a_large_graph(tmp_path: Path) -> None:
    with view.netron(chain(tmp_path / "large.onnx", 10_000)) as viewer:
        assert "about 7 s to lay out 10,000 nodes" in viewer._repr_mimebundle_()["text/html"]
    with view.netron(chain(tmp_path / "small.onnx", 4_999)) as viewer:
        assert viewer.notes == ()


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, ""),
        ({"JUPYTERHUB_USER": "ann"}, "unless your browser reaches its 127.0.0.1:4321"),
        ({"SSH_CONNECTION": "10.0.0.1 22"}, "ssh -N -L 4321:127.0.0.1:4321"),
    ],
)
def test_where_the_browser_may_be_elsewhere_the_way_there_is_told(environment: dict[str, str], told: str) -> None:
    assert told in "".join(elsewhere(environment, 4321))
    assert bool(told) == bool(elsewhere(environment, 4321))


# ---- what cannot be shown


def test_visualdl_draws_up_to_its_limit_and_says_what_to_use_above(tmp_path: Path) -> None:
    view.visualdl(chain(tmp_path / "small.onnx", 1400)).stop()
    with pytest.raises(ViewError, match=r"1,401 nodes, and VisualDL draws up to 1,400; use view\.netron instead"):
        view.visualdl(chain(tmp_path / "large.onnx", 1401))
    view.visualdl(paddle_program(tmp_path / "small.pdmodel", 1400)).stop()
    with pytest.raises(ViewError, match="1,401 nodes"):
        view.visualdl(paddle_program(tmp_path / "large.pdmodel", 1401))


def test_visualdl_refuses_what_it_would_not_draw(tmp_path: Path) -> None:
    (tmp_path / "net.tflite").write_bytes(b"TFL3")
    with pytest.raises(ViewError, match=r"net\.tflite: VisualDL draws \.onnx and \.pdmodel"):
        view.visualdl(tmp_path / "net.tflite")
    for number, content in enumerate((b"", b"\xff" * 40, b"text", paddle_program(tmp_path / "x", 3).read_bytes()[:-2])):
        (tmp_path / f"{number}.pdmodel").write_bytes(content)
        with pytest.raises(ViewError, match="not a Paddle model, or cut off"):
            view.visualdl(tmp_path / f"{number}.pdmodel")
    (tmp_path / "broken.onnx").write_bytes(b"\xff" * 40)
    with pytest.raises(ModelError, match="not an ONNX file"):
        view.visualdl(tmp_path / "broken.onnx")


def test_netron_says_which_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ViewError, match=r"nothing\.onnx: there is no such file"):
        view.netron(tmp_path / "nothing.onnx")
    with pytest.raises(ViewError, match="a folder; name the model's file"):
        view.netron(tmp_path)


def test_weights_in_other_files_are_not_needed(tmp_path: Path) -> None:
    model = save_external(tmp_path / "model.onnx")
    (tmp_path / "weights.bin").write_bytes(b"\1" * 64)
    for show in VIEWERS:
        with show(load_model(model)) as viewer:
            assert onnx.load_from_string(shown(viewer)).graph.node[0].name == "matmul"
            # Netron asks for it, and a 404 would stand in the browser's console
            assert ask(viewer, "data/weights.bin").status == (204 if show is view.netron else 404)


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.onnx")), ids=lambda path: path.stem)
def test_nodes_of_a_file_are_counted_without_parsing_it(path: Path) -> None:
    assert subject_of(path).nodes == len(load_model(path).nodes)


def test_a_missing_package_is_named() -> None:
    with pytest.raises(ViewError, match="Netron is not installed here; run `pip install no_such_package`"):
        folder_of("no_such_package", "Netron")


@pytest.mark.parametrize(
    "page", [None, "<html></html>", '<meta name="version" content="99"><meta name="date" content=soon>']
)
def test_a_release_that_is_made_otherwise_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, show: Show, fashion_cnn: Model, page: str | None
) -> None:
    name = show.__name__
    dist = tmp_path / name / ("server/dist" if name == "visualdl" else "")
    dist.mkdir(parents=True)
    (tmp_path / name / "__init__.py").touch()
    if page is not None:
        (dist / "index.html").write_text(page)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ViewError, match=rf"made in a way this workbench does not know; run `pip install {name}=="):
        show(fashion_cnn)


def test_a_machine_without_a_free_port_is_told() -> None:
    code = """
import os, resource
from workbench.errors import ViewError
from workbench.view.server import Server
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
try:
    while True:
        os.open(os.devnull, os.O_RDONLY)
except OSError:
    pass
try:
    Server(lambda path: None, {})
except ViewError as error:
    os.write(1, str(error).encode())
"""
    out, _ = start_python(code).communicate(timeout=60)
    assert "the viewer cannot listen on 127.0.0.1 (Too many open files)" in out
