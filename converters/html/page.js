"use strict";
// Everything from the model reaches the page as text nodes and attributes, never as markup.
(() => {
  const started = performance.now();
  const data = JSON.parse(document.getElementById("model").textContent);
  const facts = data.facts;
  const SVG = "http://www.w3.org/2000/svg";
  const ALL_AT_ONCE = 2500; // boxes and lines of a sheet up to which all are drawn; beyond, those in sight

  // elements -----------------------------------------------------------------------------------------------------

  function make(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name === "on") for (const [event, run] of Object.entries(value)) node.addEventListener(event, run);
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
    }
    node.append(...children.filter((c) => c !== null && c !== undefined));
    return node;
  }
  function draw(tag, attributes, ...children) {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }
  const printable = (text) => String(text).replace(/[\p{Cc}\p{Cf}]/gu, (c) => "\\u" + c.codePointAt(0).toString(16).padStart(4, "0"));
  const group = (n) => (typeof n === "number" ? n.toLocaleString("en-US") : "?");
  function short(n) {
    if (n === null || n === undefined) return "?";
    for (const [unit, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) if (n >= unit) return `${+(n / unit).toPrecision(3)} ${letter}`;
    return String(n);
  }
  const bytes = (n) => (n === null || n === undefined ? "?" : n >= 1000 ? `${short(n)}B` : `${n} B`);
  const shape = (dims) => (dims === null || dims === undefined ? "?" : dims.length ? dims.map((d) => (d === null ? "?" : d)).join(" × ") : "scalar");
  const brief = (x) => (x === null || x === undefined ? "?" : String(+x.toPrecision(4)));

  // the frame ----------------------------------------------------------------------------------------------------

  const field = make("input", { type: "search", placeholder: "Search layers  /", "aria-label": "Search layers", autocomplete: "off", spellcheck: "false" });
  const hits = make("ul", { class: "hits", role: "listbox", hidden: "" });
  const source = facts.source;
  const said = `${source.format}${source.version ? " · " + printable(source.version) : ""} · opset ${facts.opset} · ${group(facts.totals.layers)} layers · ${group(facts.totals.learnables)} learnables`;
  const tableButton = make("button", { type: "button", title: "The layers as a table (t)", on: { click: () => showTable(table.hidden) } }, "Table");
  const themeButton = make("button", { type: "button", title: "Dark or light", "aria-label": "Dark or light", on: { click: () => setTheme(!document.documentElement.classList.contains("dark")) } }, "◐");
  const header = make("header", {},
    make("h1", { title: printable(facts.name || "") }, printable(facts.name || "network")), make("span", { class: "sub" }, said),
    make("div", { class: "search" }, field, hits), tableButton,
    make("button", { type: "button", title: "What the network is", on: { click: () => select(null) } }, "Network"), themeButton);
  const overview = make("canvas", { "aria-hidden": "true" });
  const map = make("div", { id: "map", title: "Overview: click or drag to go there" }, overview);
  const tip = draw("marker", { id: "tip", viewBox: "0 0 8 8", refX: "7", refY: "4", markerWidth: "9", markerHeight: "9", markerUnits: "userSpaceOnUse", orient: "auto-start-reverse" }, draw("path", { d: "M0 0L8 4L0 8z" }));
  const linesLayer = draw("g", {}), boxesLayer = draw("g", {});
  const world = draw("g", {}, linesLayer, boxesLayer);
  const svg = draw("svg", { role: "img", "aria-label": "The drawn network" }, draw("defs", {}, tip), world);
  const crumbs = make("nav", { class: "crumbs", "aria-label": "Graphs around this one" });
  const tool = (text, title, run) => make("button", { type: "button", title, "aria-label": title, on: { click: run } }, text);
  const tools = make("div", { class: "tools" }, tool("+", "Closer (+)", () => zoom(1.3)), tool("−", "Farther (−)", () => zoom(1 / 1.3)), tool("1:1", "Full size, at the top (1)", home), tool("Fit", "All of it (0)", fit));
  const stage = make("main", { id: "stage" }, svg, crumbs, tools);
  const table = make("div", { id: "table", hidden: "" });
  const panel = make("aside", { "aria-live": "polite" });
  document.body.append(header, map, stage, table, panel);

  function setTheme(dark) {
    document.documentElement.classList.toggle("dark", dark);
    paintMap();
  }
  const wantsDark = matchMedia("(prefers-color-scheme: dark)");
  wantsDark.addEventListener("change", (event) => setTheme(event.matches));
  document.documentElement.classList.toggle("dark", wantsDark.matches);

  // the drawing --------------------------------------------------------------------------------------------------

  let sheet = null; // with boxOf: the box of each layer
  let view = { x: 0, y: 0, k: 1 };
  let selected = null; // number of a layer on the sheet
  let found = new Set(); // boxes that hold what is searched for
  const shown = { boxes: new Map(), lines: new Map() };
  const views = new Map();

  function open(number, layer) {
    if (sheet) views.set(sheet, { ...view });
    sheet = data.sheets[number];
    if (!sheet.boxOf) {
      sheet.boxOf = [];
      sheet.boxes.forEach((box, i) => box.layers.forEach((l) => (sheet.boxOf[l] = i)));
    }
    sheet.number = number;
    selected = null;
    found = new Set();
    for (const kind of ["boxes", "lines"]) {
      for (const node of shown[kind].values()) node.remove();
      shown[kind].clear();
    }
    crumbs.replaceChildren();
    if (sheet.parent !== null) {
      crumbs.append(tool("← back", "The graph around this one", () => open(sheet.parent)), make("b", {}, printable(sheet.title)));
    }
    const known = views.get(sheet);
    if (known) setView(known);
    else home();
    paintMap();
    if (layer !== undefined) select(layer, true);
    else describe();
    if (!table.hidden) fillTable();
  }

  function boxNode(number) {
    const box = sheet.boxes[number];
    const [x, y, w, h] = box.at;
    const first = sheet.layers[box.layers[0]];
    const node = draw("g", { class: `box f-${first.family}`, transform: `translate(${x} ${y})` }, draw("rect", { class: "frame", width: w, height: h, rx: 6 }));
    box.layers.forEach((index, i) => {
      const layer = sheet.layers[index];
      const [kind, name] = box.texts[i];
      const top = 3 + 24 * i;
      const strip = draw("g", { class: `strip kinded f-${layer.family}`, transform: `translate(0 ${top})`, tabindex: "0", role: "button", "data-layer": index, "aria-label": `${layer.type} ${layer.name}` },
        draw("rect", { class: "ground", x: 1, y: i ? 0 : -2, width: w - 2, height: i ? 23 : 25, rx: 5 }));
      if (i) strip.append(draw("line", { class: "divide", x1: 6, x2: w - 6, y1: 0, y2: 0 }));
      const words = draw("text", { x: 12, y: 12 }, draw("tspan", { class: "kind" }, kind));
      if (name) words.append(draw("tspan", { dx: 8 }, name));
      strip.append(draw("rect", { class: "edge", x: 0, y: i ? 1 : 0, width: 4, height: 22, rx: 2 }), words, draw("title", {}, `${printable(layer.type)}  ${printable(layer.name)}`));
      node.append(strip);
    });
    if (box.shape) node.append(draw("text", { class: "sizes", x: w / 2 + 6, y: h + 6 }, printable(box.shape)));
    return node;
  }
  function lineNode(number) {
    const line = sheet.lines[number];
    return draw("path", { class: line.back ? "line back" : "line", d: line.path });
  }

  let planned = false;
  function plan() {
    if (!planned) {
      planned = true;
      requestAnimationFrame(() => {
        planned = false;
        paint();
      });
    }
  }
  function paint() {
    world.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.k})`);
    world.classList.toggle("far", view.k < 0.38);
    const { width, height } = stage.getBoundingClientRect();
    const all = sheet.boxes.length + sheet.lines.length <= ALL_AT_ONCE;
    const gap = 300;
    const left = -view.x / view.k - gap, right = (width - view.x) / view.k + gap;
    const top = -view.y / view.k - gap, bottom = (height - view.y) / view.k + gap;
    sync("boxes", boxesLayer, boxNode, (i) => {
      const [x, y, w, h] = sheet.boxes[i].at;
      return all || (x < right && x + w > left && y < bottom && y + h > top);
    });
    sync("lines", linesLayer, lineNode, (i) => {
      const [x0, y0, x1, y1] = sheet.lines[i].at;
      return all || (x0 < right && x1 > left && y0 < bottom && y1 > top);
    });
    mark();
    paintView(width, height);
  }
  function sync(kind, layer, build, wanted) {
    const have = shown[kind];
    const list = sheet[kind];
    const fresh = document.createDocumentFragment();
    for (let i = 0; i < list.length; i++) {
      const node = have.get(i);
      if (wanted(i)) {
        if (!node) {
          const made = build(i);
          have.set(i, made);
          fresh.append(made);
        }
      } else if (node) {
        node.remove();
        have.delete(i);
      }
    }
    layer.append(fresh);
  }
  function mark() {
    const box = selected === null ? -1 : sheet.boxOf[selected];
    for (const [i, node] of shown.boxes) {
      node.classList.toggle("on", i === box);
      node.classList.toggle("found", found.has(i));
      for (const strip of node.querySelectorAll(".strip")) strip.classList.toggle("on", +strip.dataset.layer === selected);
    }
    for (const [i, node] of shown.lines) node.classList.toggle("near", sheet.lines[i].from === box || sheet.lines[i].to === box);
  }

  function setView(next) {
    view = next;
    plan();
  }
  function home() {
    const { width } = stage.getBoundingClientRect();
    const k = 1;
    const top = sheet.boxes.length ? sheet.boxes[0].at : [0, 0, 0, 0];
    const middle = sheet.size[0] * k <= width ? sheet.size[0] / 2 : top[0] + top[2] / 2;
    setView({ k, x: width / 2 - middle * k, y: sheet.parent === null ? 4 : 44 });
  }
  function fit() {
    const { width, height } = stage.getBoundingClientRect();
    const k = Math.min(1.5, (width - 24) / sheet.size[0], (height - 24) / sheet.size[1]);
    setView({ k, x: (width - sheet.size[0] * k) / 2, y: (height - sheet.size[1] * k) / 2 });
  }
  function zoom(factor, px, py) {
    const { width, height } = stage.getBoundingClientRect();
    const x = px === undefined ? width / 2 : px, y = py === undefined ? height / 2 : py;
    const k = Math.min(4, Math.max(Math.min(0.02, view.k), view.k * factor));
    setView({ k, x: x - ((x - view.x) * k) / view.k, y: y - ((y - view.y) * k) / view.k });
  }
  function reveal(layer) {
    const [x, y, w, h] = sheet.boxes[sheet.boxOf[layer]].at;
    const { width, height } = stage.getBoundingClientRect();
    const k = view.k < 0.6 ? 1 : view.k;
    const cx = (x + w / 2) * k + view.x, cy = (y + h / 2) * k + view.y;
    const inside = k === view.k && cx > w / 2 && cx < width - w / 2 && cy > 80 && cy < height - 80;
    const middle = sheet.size[0] * k <= width ? sheet.size[0] / 2 : x + w / 2;
    if (!inside) setView({ k, x: width / 2 - middle * k, y: height / 2 - (y + h / 2) * k });
  }

  // moving about
  const touches = new Map();
  let moved = 0;
  svg.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    touches.set(event.pointerId, [event.clientX, event.clientY]);
    moved = 0;
  });
  svg.addEventListener("pointermove", (event) => {
    const before = touches.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    const dx = now[0] - before[0], dy = now[1] - before[1];
    moved += Math.abs(dx) + Math.abs(dy);
    if (moved > 4 && !svg.hasPointerCapture(event.pointerId)) {
      svg.setPointerCapture(event.pointerId);
      svg.classList.add("moving");
    }
    if (touches.size === 2) {
      const other = [...touches].find(([id]) => id !== event.pointerId)[1];
      const far = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
      const { left, top } = stage.getBoundingClientRect();
      zoom(far(now) / Math.max(1, far(before)), (now[0] + other[0]) / 2 - left, (now[1] + other[1]) / 2 - top);
    } else setView({ ...view, x: view.x + dx, y: view.y + dy });
    touches.set(event.pointerId, now);
  });
  const release = (event) => {
    touches.delete(event.pointerId);
    svg.classList.remove("moving");
  };
  svg.addEventListener("pointerup", release);
  svg.addEventListener("pointercancel", release);
  svg.addEventListener("click", (event) => {
    if (moved > 4) return;
    const strip = event.target.closest(".strip");
    if (strip) select(+strip.dataset.layer);
  });
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const { left, top } = stage.getBoundingClientRect();
    const unit = event.deltaMode === 1 ? 18 : event.deltaMode === 2 ? 400 : 1;
    if (event.ctrlKey || event.metaKey) zoom(Math.exp(-event.deltaY * unit * 0.004), event.clientX - left, event.clientY - top);
    else {
      const across = event.shiftKey && !event.deltaX;
      setView({ ...view, x: view.x - (across ? event.deltaY : event.deltaX) * unit, y: view.y - (across ? 0 : event.deltaY) * unit });
    }
  }, { passive: false });
  svg.addEventListener("dblclick", (event) => {
    const strip = event.target.closest(".strip");
    const inner = strip && sheet.layers[+strip.dataset.layer].sheets;
    if (inner) return open(inner[0][1]);
    const { left, top } = stage.getBoundingClientRect();
    zoom(1.6, event.clientX - left, event.clientY - top);
  });
  svg.addEventListener("keydown", (event) => {
    const strip = event.target.closest(".strip");
    if (strip && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      select(+strip.dataset.layer);
    }
  });
  new ResizeObserver(() => {
    if (sheet) {
      plan();
      paintMap();
    }
  }).observe(stage);

  // the overview -------------------------------------------------------------------------------------------------

  let picture = null;
  function scaleOfMap() {
    const { width, height } = map.getBoundingClientRect();
    const k = Math.min((width - 12) / sheet.size[0], (height - 12) / sheet.size[1]);
    return { k, x: (width - sheet.size[0] * k) / 2, y: 6, width, height };
  }
  function paintMap() {
    if (!sheet) return;
    const { k, x, y, width, height } = scaleOfMap();
    if (!(width > 0)) return;
    const ratio = devicePixelRatio || 1;
    picture = document.createElement("canvas");
    picture.width = overview.width = Math.round(width * ratio);
    picture.height = overview.height = Math.round(height * ratio);
    const pen = picture.getContext("2d");
    pen.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    const colours = {};
    for (const box of sheet.boxes) {
      const family = sheet.layers[box.layers[0]].family;
      pen.fillStyle = colours[family] || (colours[family] = style.getPropertyValue("--" + family));
      pen.fillRect(x + box.at[0] * k, y + box.at[1] * k, Math.max(1.5, box.at[2] * k), Math.max(1, box.at[3] * k));
    }
    plan();
  }
  function paintView(width, height) {
    if (!picture) return;
    const ratio = devicePixelRatio || 1;
    const at = scaleOfMap();
    const pen = overview.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, overview.width, overview.height);
    pen.drawImage(picture, 0, 0);
    pen.scale(ratio, ratio);
    const accent = getComputedStyle(document.documentElement).getPropertyValue("--accent");
    const x0 = Math.max(1, at.x - (view.x / view.k) * at.k), y0 = Math.max(1, at.y - (view.y / view.k) * at.k);
    const x1 = Math.min(at.width - 1, at.x + ((width - view.x) / view.k) * at.k);
    const y1 = Math.min(at.height - 1, at.y + ((height - view.y) / view.k) * at.k);
    if (x1 <= x0 || y1 <= y0) return;
    pen.strokeStyle = pen.fillStyle = accent;
    pen.globalAlpha = 0.14;
    pen.fillRect(x0, y0, x1 - x0, y1 - y0);
    pen.globalAlpha = 1;
    pen.lineWidth = 1.5;
    pen.strokeRect(x0, y0, x1 - x0, Math.max(3, y1 - y0));
  }
  function goTo(event) {
    const frame = map.getBoundingClientRect();
    const { width, height } = stage.getBoundingClientRect();
    const at = scaleOfMap();
    const x = (event.clientX - frame.left - at.x) / at.k, y = (event.clientY - frame.top - at.y) / at.k;
    const wide = sheet.size[0] * view.k > width;
    setView({ ...view, x: wide ? width / 2 - x * view.k : view.x, y: height / 2 - y * view.k });
  }
  overview.addEventListener("pointerdown", (event) => {
    overview.setPointerCapture(event.pointerId);
    goTo(event);
  });
  overview.addEventListener("pointermove", (event) => {
    if (overview.hasPointerCapture(event.pointerId)) goTo(event);
  });

  // the panel ----------------------------------------------------------------------------------------------------

  function select(layer, show) {
    selected = layer;
    if (layer !== null && show) reveal(layer);
    describe();
    plan();
    for (const row of table.querySelectorAll("tbody tr")) row.classList.toggle("on", +row.dataset.layer === selected);
    const target = layer === null ? "" : `#${sheet.number ? sheet.number + "/" : ""}${encodeURIComponent(wellFormed(sheet.layers[layer].name))}`;
    try {
      history.replaceState(null, "", target || location.pathname + location.search);
    } catch (error) {
      // pages without an address of their own have no history
    }
  }
  const wellFormed = (text) => (text.toWellFormed ? text.toWellFormed() : text.replace(/[\ud800-\udfff]/g, "?"));
  function rows(...pairs) {
    const body = make("tbody", {});
    for (const pair of pairs) if (pair) body.append(make("tr", {}, make("td", {}, printable(pair[0])), make("td", { class: "num" }, pair[1] instanceof Node ? pair[1] : printable(pair[1]))));
    return make("table", {}, body);
  }
  const title = (text) => make("h3", {}, text);
  const link = (text, run) => make("button", { type: "button", class: "link", on: { click: run } }, text);
  function links(numbers) {
    const box = make("div", {});
    numbers.slice(0, 40).forEach((n, i) => box.append(...(i ? [make("br", {})] : []), link(printable(sheet.layers[n].name || sheet.layers[n].type), () => select(n, true)), ` ${printable(sheet.layers[n].type)}`));
    if (numbers.length > 40) box.append(make("br", {}), `… and ${numbers.length - 40} more`);
    return box;
  }
  function describe() {
    panel.replaceChildren();
    panel.scrollTop = 0;
    if (selected === null) describeNetwork();
    else describeLayer(sheet.layers[selected]);
  }
  function describeNetwork() {
    const t = facts.totals;
    panel.append(make("h2", {}, printable(facts.name || "network")), make("p", { class: "kind" }, said.split(" · ").slice(0, -2).join(" · ")));
    for (const warning of facts.warnings) panel.append(make("p", { class: "warning" }, "⚠ " + printable(warning.message)));
    const unknown = t.multiply_adds_unknown.length;
    const at = Object.entries(facts.counted_at).map(([n, s]) => `${n} ${s}`).join(", ");
    panel.append(title("Totals"), rows(
      ["layers", group(t.layers)], ["connections", group(t.connections)], ["nodes", group(t.nodes)], ["depth", group(t.depth)],
      ["learnables", `${group(t.learnables)} in ${group(t.learnable_tensors)} tensors`], t.state ? ["state", group(t.state)] : null,
      ["multiply-adds", (unknown ? "at least " : "") + short(t.multiply_adds)], ["weights", bytes(t.weight_bytes)],
      ["values at a time", bytes(t.peak_bytes)], at ? ["counted at", at] : null));
    for (const side of ["inputs", "outputs"]) {
      panel.append(title(side));
      for (const port of facts[side]) {
        const card = make("div", { class: "card" }, make("b", {}, printable(port.name)), make("div", { class: "pale" }, `${port.dtype}  ${printable(shape(port.shape))}`));
        const recipe = facts.preprocessing[port.name];
        if (side === "inputs" && recipe) card.append(rows(...Object.entries(recipe).map(([k, v]) => [k, k === "mean_image" ? "an image" : Array.isArray(v) ? v.join(", ") : v])));
        if (side === "outputs" && facts.labels[port.name]) card.append(make("div", {}, `${group(facts.labels[port.name])} labels`));
        panel.append(card);
      }
    }
    if (sheet.constants) panel.append(make("p", { class: "pale" }, `${group(sheet.constants)} layers that only hold or compute constants are not drawn.`));
    panel.append(title("Operators"), rows(...Object.entries(t.operators).sort((a, b) => b[1] - a[1]).map(([k, v]) => [k, group(v)])));
    panel.append(title("File"), rows(...source.files.map((file) => ["read", file]), ["opsets", Object.entries(facts.opsets).map(([d, v]) => `${d || "ai.onnx"} ${v}`).join(", ")], ["IR version", facts.ir_version], ["drawn by", `netferry ${data.version}`]));
    if (facts.notes.length) {
      panel.append(title("Notes"));
      for (const note of facts.notes.slice(0, 50)) panel.append(make("p", {}, printable(`${note.kind}${note.layer ? " · " + note.layer : ""}: ${note.message}`)));
    }
    panel.append(title("Keys"), make("p", { class: "pale" }, "Drag or scroll to move, Ctrl and scroll to zoom, / to search, ↑ ↓ for the layer before and after, t for the table, 0 to see all, 1 for full size."));
  }
  function describeLayer(layer) {
    panel.append(make("h2", {}, printable(layer.name || layer.type)), make("p", { class: "kind" }, printable(layer.type)));
    const f = layer.facts || {};
    const gives = (layer.gives || []).map((dims) => shape(dims)).join(",  ");
    panel.append(rows(
      layer.gives ? ["gives", gives || "nothing that is read"] : null,
      f.learnable_count ? ["learnables", group(f.learnable_count)] : null, f.state_count ? ["state", group(f.state_count)] : null,
      f.multiply_adds !== undefined && f.multiply_adds !== 0 ? ["multiply-adds", group(f.multiply_adds)] : null,
      f.weight_bytes ? ["weights", bytes(f.weight_bytes)] : null, f.output_bytes !== undefined ? ["output", bytes(f.output_bytes)] : null,
      layer.reads.length ? ["reads", links(layer.reads)] : null, layer.readers.length ? ["read by", links(layer.readers)] : null));
    const hidden = sheet.not_drawn.filter(([a, b]) => sheet.boxOf[selected] === a || sheet.boxOf[selected] === b).length;
    if (hidden) panel.append(make("p", { class: "pale" }, `${hidden} far connections of this layer are not drawn.`));
    for (const [name, number] of layer.sheets || []) panel.append(title("Graph inside"), link(`open ${printable(name)}`, () => open(number)));
    if (layer.weights && layer.weights.length) {
      panel.append(title("Weights"));
      for (const weight of layer.weights) panel.append(weightCard(weight));
    }
    if (layer.operators && layer.operators.length) {
      panel.append(title(layer.operators.length > 1 ? `${layer.operators.length} operators` : "Operator"));
      for (const op of layer.operators.slice(0, 200)) panel.append(operatorCard(op));
    }
  }
  function operatorCard(op) {
    const ports = (list) => list.map((p) => [p.slot, `${p.name}${p.value !== undefined ? " = " + p.value : ""}   ${p.type} ${shape(p.shape)}`]);
    const card = make("div", { class: "card" }, make("div", { class: "head" }, make("b", {}, printable(op.operator)), make("span", { class: "pale" }, printable(op.domain || ""))));
    if (op.name) card.append(make("div", { class: "pale" }, printable(op.name)));
    if (op.settings.length) card.append(rows(...op.settings));
    card.append(make("div", { class: "pale" }, "reads"), rows(...ports(op.reads)), make("div", { class: "pale" }, "gives"), rows(...ports(op.gives)));
    return card;
  }
  function weightCard(weight) {
    const card = make("div", { class: "card weight" }, make("div", { class: "head" }, make("b", {}, printable(weight.name)), make("span", { class: "pale" }, weight.role)), make("div", { class: "pale" }, `${weight.type}  ${shape(weight.shape)}`));
    const s = weight.statistics;
    if (!s) {
      card.append(make("div", { class: "pale" }, "no values"));
      return card;
    }
    if (s.histogram) card.append(histogram(s));
    card.append(rows(["mean", brief(s.mean)], ["deviation", brief(s.std)], s.zeros ? ["zeros", `${+((100 * s.zeros) / s.looked_at).toPrecision(3)} %`] : null, s.not_finite ? ["NaN or infinite", group(s.not_finite)] : null, s.looked_at < s.count ? ["looked at", `${group(s.looked_at)} of ${group(s.count)}`] : null));
    return card;
  }
  function histogram(s) {
    const W = 330, H = 74, base = 56, most = Math.max(...s.histogram), n = s.histogram.length, w = W / n;
    const chart = draw("svg", { class: "bars", viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", role: "img", "aria-label": `histogram from ${brief(s.min)} to ${brief(s.max)}` });
    s.histogram.forEach((count, i) => {
      const h = count ? Math.max(1, (count / most) * (base - 4)) : 0;
      const low = s.min + ((s.max - s.min) * i) / n, high = s.min + ((s.max - s.min) * (i + 1)) / n;
      chart.append(draw("rect", { x: (i * w + 0.5).toFixed(2), y: (base - h).toFixed(2), width: Math.max(0.5, w - 1).toFixed(2), height: h.toFixed(2) }, draw("title", {}, `${group(count)} from ${brief(low)} to ${brief(high)}`)));
    });
    chart.append(draw("line", { x1: 0, x2: W, y1: base, y2: base }));
    if (s.min < 0 && s.max > 0) {
      const zero = (W * -s.min) / (s.max - s.min);
      chart.append(draw("line", { class: "zero", x1: zero, x2: zero, y1: 2, y2: base }));
    }
    chart.append(draw("text", { x: 0, y: H - 5 }, brief(s.min)), draw("text", { x: W, y: H - 5, "text-anchor": "end" }, brief(s.max)));
    return chart;
  }

  // the search ---------------------------------------------------------------------------------------------------

  let results = [], at = -1;
  function search() {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    results = [];
    if (words.length) {
      for (const part of data.sheets) {
        part.layers.forEach((layer, i) => {
          const text = `${layer.name} ${layer.type} ${(layer.operators || []).map((o) => o.operator + " " + o.name).join(" ")} ${(layer.weights || []).map((w) => w.name).join(" ")}`.toLowerCase();
          if (words.every((word) => text.includes(word))) results.push([part, i]);
        });
      }
    }
    at = -1;
    found = new Set(results.filter(([part]) => part === sheet).map(([, i]) => sheet.boxOf[i]));
    hits.replaceChildren();
    results.slice(0, 200).forEach(([part, i], n) => {
      const layer = part.layers[i];
      hits.append(make("li", { role: "option", on: { click: () => take(n) } }, make("b", {}, printable(layer.type)), make("span", {}, printable(layer.name) + (part.title ? `  in ${printable(part.title)}` : ""))));
    });
    if (words.length && !results.length) hits.append(make("li", { class: "none" }, "no such layer"));
    if (results.length > 200) hits.append(make("li", { class: "none" }, `… and ${group(results.length - 200)} more`));
    hits.hidden = !words.length;
    plan();
  }
  function take(n) {
    at = n;
    const [part, layer] = results[n];
    const keep = found;
    if (part !== sheet) open(data.sheets.indexOf(part));
    else found = keep;
    select(layer, true);
    [...hits.children].forEach((item, i) => item.classList.toggle("on", i === n));
    if (hits.children[n]) hits.children[n].scrollIntoView({ block: "nearest" });
  }
  field.addEventListener("input", search);
  field.addEventListener("focus", () => { if (field.value) hits.hidden = false; });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      field.value = "";
      search();
      field.blur();
    } else if (results.length && (event.key === "Enter" || event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      const last = Math.min(results.length, 200);
      take(event.key === "ArrowUp" || event.shiftKey ? (at <= 0 ? last : at) - 1 : (at + 1) % last);
    }
  });
  document.addEventListener("pointerdown", (event) => { if (!event.target.closest(".search")) hits.hidden = true; });
  document.addEventListener("keydown", (event) => {
    if (event.target === field || event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = { "/": () => field.focus(), "+": () => zoom(1.3), "=": () => zoom(1.3), "-": () => zoom(1 / 1.3), 0: fit, 1: home, t: () => showTable(table.hidden), Escape: () => select(null),
      ArrowDown: () => step(1), ArrowUp: () => step(-1) };
    if (keys[event.key]) {
      event.preventDefault();
      keys[event.key]();
    }
  });
  function step(by) {
    const next = selected === null ? (by > 0 ? 0 : sheet.layers.length - 1) : selected + by;
    if (next >= 0 && next < sheet.layers.length) select(next, true);
  }

  // the table ----------------------------------------------------------------------------------------------------

  const columns = [
    ["layer", (l) => l.name], ["type", (l) => l.type], ["output", (l) => (l.gives || []).map(shape).join(", ")],
    ["learnables", (l) => l.facts && l.facts.learnable_count, group], ["state", (l) => l.facts && l.facts.state_count, group],
    ["multiply-adds", (l) => l.facts && l.facts.multiply_adds, group], ["memory", (l) => (l.facts && l.facts.output_bytes !== undefined && l.facts.output_bytes !== null ? l.facts.output_bytes + l.facts.weight_bytes : null), bytes],
  ];
  let sorted = null, downwards = true;
  function showTable(on) {
    table.hidden = !on;
    tableButton.textContent = on ? "Graph" : "Table";
    if (on) fillTable();
    else if (selected !== null) reveal(selected);
  }
  function fillTable() {
    const order = sheet.layers.map((_, i) => i);
    if (sorted !== null) {
      const key = (i) => { const v = columns[sorted][1](sheet.layers[i]); return v === undefined || v === null ? -1 : v; };
      order.sort((a, b) => { const x = key(a), y = key(b); return (x < y ? -1 : x > y ? 1 : a - b) * (downwards ? -1 : 1); });
    }
    const head = make("tr", {}, ...columns.map(([name, , number], c) => make("th", { class: number ? "num" : "", on: { click: () => { downwards = sorted === c ? !downwards : Boolean(number); sorted = c; fillTable(); } } }, name + (sorted === c ? (downwards ? " ↓" : " ↑") : ""))));
    const body = make("tbody", {});
    for (const i of order.slice(0, 5000)) {
      const layer = sheet.layers[i];
      const row = make("tr", { class: `f-${layer.family}${i === selected ? " on" : ""}`, "data-layer": i, on: { click: () => select(i) } });
      columns.forEach(([, value, number], c) => {
        const v = value(layer);
        const text = number ? (v === undefined ? "" : v === 0 ? "" : number(v)) : printable(v);
        row.append(make("td", { class: number ? "num" : "long", title: number ? null : printable(v) }, c ? "" : make("span", { class: "dot" }), text));
      });
      body.append(row);
    }
    table.replaceChildren(make("table", {}, make("thead", {}, head), body));
  }

  // start --------------------------------------------------------------------------------------------------------

  open(0);
  const wanted = /^#(?:(\d+)\/)?(.+)$/.exec(location.hash);
  if (wanted) {
    let name = wanted[2];
    try { name = decodeURIComponent(name); } catch (error) { /* not one of ours */ }
    const part = data.sheets[+(wanted[1] || 0)];
    const layer = part ? part.layers.findIndex((l) => l.name === name) : -1;
    if (layer >= 0) open(+(wanted[1] || 0), layer);
  }
  paint();
  document.documentElement.dataset.drawn = String(Math.round(performance.now() - started));
})();
