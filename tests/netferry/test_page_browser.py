"""The page in a real browser: offline, without a word on the console, and usable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from netferry import api
from tests.converters.html.test_page import HOSTILE, net
from tests.netferry.browser import CHROMIUM, Opened, chromium

pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'netferry[browser]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (or NETFERRY_CHROMIUM)"),
]
FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
Open = Callable[..., Opened]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def opened(browser: Any) -> Iterator[Open]:
    contexts = []

    def load(path: Path, **options: Any) -> Opened:
        context = browser.new_context(viewport={"width": 1300, "height": 850}, offline=True, **options)
        contexts.append(context)
        found = Opened(context.new_page())
        found.page.goto(path.as_uri())
        return found

    yield load
    for context in contexts:
        context.close()


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    api.inspect(FIXTURES / "digits.prototxt", FIXTURES / "digits.caffemodel", html=tmp_path / "digits.html")
    return tmp_path / "digits.html"


def transform(found: Opened) -> str:
    found.page.wait_for_timeout(100)
    return found.page.get_attribute("#stage svg > g", "transform")


def test_it_is_drawn_offline_without_a_word(digits: Path, opened: Open) -> None:
    found = opened(digits)
    assert found.page.locator(".strip").count() == 10  # nine layers and the output
    assert found.page.locator(".line").count() > 0
    assert "7,034" in found.text("aside")
    assert found.page.evaluate("document.documentElement.dataset.drawn") is not None
    assert found.said == []


def test_a_click_shows_settings_and_histograms(digits: Path, opened: Open) -> None:
    found = opened(digits)
    found.page.click("[data-layer='1']")
    panel = found.text("aside")
    assert "kernel_shape" in panel
    assert "[5, 5]" in panel
    assert "51,200" in panel
    assert found.page.locator("aside .bars").count() == 2
    assert found.page.locator("aside .bars >> nth=0 >> rect").count() == 40
    assert found.page.evaluate("location.hash") == "#conv1"
    found.page.click("aside .link >> text=pool1")
    assert found.text("aside h2") == "pool1"
    assert found.said == []


def test_search_zoom_and_keys(digits: Path, opened: Open) -> None:
    found = opened(digits)
    before = transform(found)
    found.page.keyboard.press("/")
    found.page.keyboard.type("gemm ip2")
    assert found.page.locator(".hits li").count() == 1
    found.page.keyboard.press("Enter")
    assert found.text("aside h2") == "ip2"
    found.page.keyboard.press("Escape")
    found.page.keyboard.press("ArrowUp")
    assert found.text("aside h2") == "relu1"
    found.page.keyboard.press("+")
    closer = transform(found)
    assert closer != before
    found.page.keyboard.press("0")
    fitted = transform(found)
    assert fitted not in (before, closer)
    found.page.mouse.move(500, 400)
    found.page.mouse.wheel(0, 120)
    assert transform(found) != fitted
    found.page.keyboard.press("t")
    assert found.page.locator("#table tbody tr").count() == 10
    assert found.said == []


def test_it_moves_with_the_pointer_and_a_drag_is_no_click(digits: Path, opened: Open) -> None:
    found = opened(digits)
    before = transform(found)
    box = found.page.locator("[data-layer='1']").bounding_box()
    found.page.mouse.move(box["x"] + 20, box["y"] + 10)
    found.page.mouse.down()
    found.page.mouse.move(box["x"] + 90, box["y"] + 60, steps=4)
    found.page.mouse.up()
    assert transform(found) != before
    assert found.page.locator(".strip.on").count() == 0


def test_hostile_names_do_nothing(tmp_path: Path, opened: Open) -> None:
    source = net(tmp_path / "m.onnx", "g (float[1] x) => (float[1] y) { h = Relu(x) y = Neg(h) }", rename=True)
    api.inspect(source, html=tmp_path / "p.html")
    found = opened(tmp_path / "p.html")
    for number in range(found.page.locator(".strip").count()):
        found.page.click(f"[data-layer='{number}']")
    found.page.fill("input[type=search]", "alert")
    found.page.keyboard.press("Enter")
    found.page.keyboard.press("Escape")
    found.page.keyboard.press("t")
    assert found.page.evaluate("document.images.length") == 0
    assert found.page.evaluate("document.scripts.length") == 2
    assert HOSTILE.split(" ")[0] in found.page.title()
    assert found.said == []


def test_the_policy_lets_no_other_script_run(digits: Path, opened: Open) -> None:
    injected = digits.with_name("injected.html")
    injected.write_text(
        digits.read_text("utf-8").replace("<noscript>", "<script>document.title='owned'</script><noscript>")
    )
    found = opened(injected)
    assert found.page.title() != "owned"
    assert any("Content Security Policy" in line for line in found.said)


def test_the_graph_inside_a_layer_opens(tmp_path: Path, opened: Open) -> None:
    source = net(
        tmp_path / "m.onnx",
        """g (bool c, float[2] x) => (float[2] y) { h = Neg(x) y = If(c) <
        then_branch = a () => (float[2] p) { q = Relu(h) p = Exp(q) },
        else_branch = b () => (float[2] r) { r = Abs(h) }> }""",
    )
    api.inspect(source, html=tmp_path / "p.html")
    found = opened(tmp_path / "p.html")
    found.page.click(".strip.f-control")
    found.page.click("aside .link >> text=open else_branch")
    assert "Abs" in found.text("#stage")
    assert "else_branch" in found.text(".crumbs")
    found.page.click(".crumbs button")
    assert "Neg" in found.text("#stage")
    assert found.said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_colour_scheme(digits: Path, opened: Open, scheme: str) -> None:
    found = opened(digits, color_scheme=scheme)
    ground = found.page.evaluate("getComputedStyle(document.body).backgroundColor")
    dark = sum(int(n) for n in ground[4:-1].split(",")) < 3 * 128
    assert dark == (scheme == "dark")
    found.page.click("text=◐")
    assert found.page.evaluate("getComputedStyle(document.body).backgroundColor") != ground


def test_a_large_graph_draws_what_is_in_sight(tmp_path: Path, opened: Open) -> None:
    nodes = [onnx.helper.make_node("Add", [f"v{i}", f"v{max(0, i - 7)}"], [f"v{i + 1}"], f"n{i}") for i in range(3000)]
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(nodes, "long", [info("v0", 1, [4])], [info("v3000", 1, [4])])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8),
        tmp_path / "m.onnx",
    )
    api.inspect(tmp_path / "m.onnx", html=tmp_path / "p.html")
    found = opened(tmp_path / "p.html")
    assert 0 < found.page.locator(".box").count() < 200
    found.page.fill("input[type=search]", "n2999")
    found.page.keyboard.press("Enter")
    found.page.wait_for_timeout(200)
    assert found.page.locator(".strip.on").count() == 1
    assert found.said == []
