// The survival map, live: draws in the browser what the static figure shows
// (survival_plot.py), for any number n of samples served. It reads the
// page alone; without it the static figure stays.
(() => {
  "use strict";
  const root = document.getElementById("survival-map");
  const source = document.getElementById("survival-map-data");
  if (!root || !source) return;
  const data = JSON.parse(source.textContent, (key, value) =>
    value === "inf" ? Infinity : value === "-inf" ? -Infinity : value);
  const INK = "#1f2933", FAINT = "#7b8794", FRONT = "#829ab1";
  const ISO = "#9fb3c8", GUTTER = "#f5f6f7", ROW = 19;
  const find = (name) => root.querySelector(`.${name}`);
  const slider = find("samples"), tip = find("tip"), stage = find("stage");
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = "12px Inter, system-ui, 'Segoe UI', Arial, sans-serif";
  const widthOf = (text) => pen.measureText(text).width;
  const untrained = (p) => data.untrained.includes(p.kind);

  // Numbers as the tables print them.
  const raised = (k) => String(k).replace(/[-0-9]/g,
    (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
  const split = (v, digits) => v.toExponential(digits).split("e").map(Number);
  const signed = (text) => text.replace(/-/g, "−");
  function short(v) {
    if (v === null || v === undefined) return "—";
    if (!Number.isFinite(v)) return v > 0 ? "∞" : "−∞";
    if (v === 0) return "0";
    const plain = split(v, 2)[1];
    if (plain < -2 || plain > 3) {
      const [mantissa, k] = split(v, 1);
      return signed(`${mantissa.toFixed(1)}×10${raised(k)}`);
    }
    const digits = Math.max(2 - plain, 0);
    return signed(v.toLocaleString("en", {
      minimumFractionDigits: digits, maximumFractionDigits: digits,
    }));
  }
  const count = (n) => Number.isInteger(n) && n < 1e9
    ? n.toLocaleString("en") : short(n);
  function spread(p, key) {
    const all = ["", "_p5", "_p95"].map((end) => p[key + end]);
    if (!all.every(Number.isFinite) || all[0] === 0) return short(all[0]);
    const k = split(all[0], 1)[1];
    if (k > -3 && k < 4) {
      return `${short(all[0])} [${short(all[1])}, ${short(all[2])}]`;
    }
    const [middle, low, high] = all.map((v) => (v / 10 ** k).toFixed(1));
    return signed(`${middle} [${low}, ${high}] ×10${raised(k)}`);
  }

  // The same arithmetic as survival_points.py: at, life, front.
  function life(n, k, training, use) {
    const unknown = [k, training, use].some((v) => v === null);
    if (unknown || training + n * use <= 0) return null;
    return (n * Math.max(k, 0)) / (training + n * use);
  }
  function at(point, n) {
    const before = point.samples_served;
    const moved = { ...point, samples_served: n };
    if (before === null || n === before) return moved;
    if (Number.isFinite(point.log10_eta_t)) {
      moved.log10_eta_t += Math.log10(n / before);
    }
    if (point.k !== null && point.state_bits !== null) {
      moved.net_bits = n * Math.max(point.k, 0) - point.state_bits;
    }
    for (const [end, other] of [["", ""], ["_p5", "_p95"], ["_p95", "_p5"]]) {
      const t = point[`rsrc_t${end}`];
      moved[`rsrc_t${end}`] = t === null ? null : (t * n) / before;
      const bits = end ? point[`bits_saved${end}`] : point.k;
      const spent = untrained(point) ? 0 : point[`training_joules${other}`];
      moved[`rsrc_life${end}`] = life(n, bits, spent, point[`joules${other}`]);
    }
    return moved;
  }
  function front(points) {
    const xy = (p) => [p.rsrc_i, p.rsrc_t];
    const known = points.filter((p) => !xy(p).includes(null));
    const beats = ([a, b], [x, y]) => a >= x && b >= y && (a > x || b > y);
    return known.filter((p) => !known.some((q) => beats(xy(q), xy(p))));
  }
  const place = (v) => v === null ? "unknown" : v <= 0 ? "0"
    : Number.isFinite(v) ? "inside" : "inf";
  // The line 1/x + 1/y = 1/level: x = level (1 + e^t), y = level (1 + e^-t).
  function isoLife(level, fx, fy) {
    let low = -Infinity, high = Infinity;
    for (const [[first, last], sign] of [[fx, 1], [fy, -1]]) {
      const edges = [first, last].map((k) => 10 ** k / level - 1);
      if (edges[1] <= 0) return [];
      const least = edges[0] > 0 ? Math.log(edges[0]) : -Infinity;
      const most = Math.log(edges[1]);
      low = Math.max(low, sign > 0 ? least : -most);
      high = Math.min(high, sign > 0 ? most : -least);
    }
    if (!(low < high)) return [];
    return Array.from({ length: 97 }, (_, i) => {
      const t = low + ((high - low) * i) / 96;
      return [1 + Math.exp(t), 1 + Math.exp(-t)].map(
        (v) => Math.log10(level) + Math.log10(v));
    });
  }

  // Elements. Text only ever enters as text.
  function make(space, tag, attributes, ...children) {
    const node = space
      ? document.createElementNS("http://www.w3.org/2000/svg", tag)
      : document.createElement(tag);
    for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
    node.append(...children);
    return node;
  }
  const draw = (tag, attributes, ...kids) => make(1, tag, attributes, ...kids);
  const html = (tag, attributes, ...kids) => make(0, tag, attributes, ...kids);
  const path = (points, attributes) => draw("path", {
    d: points.map(([x, y], i) =>
      `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join(""),
    fill: "none", ...attributes,
  });
  const write = (text, x, y, attributes) =>
    draw("text", { x: x.toFixed(1), y: y.toFixed(1), ...attributes }, text);
  function shape(marker, x, y, attributes) {
    const r = 6, circle = { cx: x, cy: y, r, ...attributes };
    if (marker === "o") return draw("circle", circle);
    // Corners, the turn of the first one in degrees, and how deep the notches
    // between corners are, as a share of the radius.
    const [n, turn, depth] = { s: [4, 45], D: [4, 0], d: [4, 0], "^": [3, -90],
      v: [3, 90], "<": [3, 180], ">": [3, 0], h: [6, -90], H: [6, 0],
      p: [5, -90], 8: [8, 22.5], "*": [5, -90, 0.4], P: [4, 0, 0.4],
      X: [4, 45, 0.4] }[marker] || [4, 45];
    const turns = Array.from({ length: depth ? 2 * n : n }, (_, i) => i);
    const corners = turns.map((i) => {
      const angle = ((turn + (360 * i) / turns.length) * Math.PI) / 180;
      const far = 1.15 * r * (depth && i % 2 ? depth : 1);
      return [x + far * Math.cos(angle), y + far * Math.sin(angle)];
    });
    const node = path(corners, attributes);
    node.setAttribute("d", `${node.getAttribute("d")}Z`);
    return node;
  }

  // How far y has to scroll, in decades, to keep the arms in sight.
  function scrolled(points) {
    const [low, high] = data.frame.y;
    const logs = points.map((p) => p.rsrc_t)
      .filter((t) => place(t) === "inside").map(Math.log10);
    if (!logs.length) return 0;
    const over = Math.max(...logs) - (high - 0.3);
    const under = Math.min(...logs) - (low + 0.3);
    return over > 0 ? over : Math.min(under, 0);
  }

  // Where everything lies, in pixels.
  function layOut(points, width) {
    const small = width < 640;
    const paper = {
      width, height: Math.max(small ? 440 : 400, Math.min(0.54 * width, 560)),
      small, axis: small ? 58 : 92, foot: 54, head: small ? 26 : 8,
      fx: data.frame.x, fy: data.frame.y.map((k) => k + scrolled(points)),
    };
    paper.x = [paper.axis + (small ? 96 : 124), width - 12];
    const across = (k) => paper.x[0] + ((paper.x[1] - paper.x[0])
      * (k - paper.fx[0])) / (paper.fx[1] - paper.fx[0]);
    const queue = {};
    const marks = points.map((p) => {
      const [i, t] = [place(p.rsrc_i), place(p.rsrc_t)];
      const x = i === "0" ? paper.axis + 12 : i === "inf" ? paper.x[1] - 8
        : i === "inside" ? across(Math.log10(p.rsrc_i)) : null;
      const mark = { p, i, t, x, span: [x - 8, x + 8] };
      const ends = [p.rsrc_i_p5, p.rsrc_i_p95];
      if (i === "inside" && !ends.includes(null)) {
        mark.bar = ends.map((v) => place(v) === "inside"
          ? across(Math.log10(v)) : paper.x[v > 0 ? 1 : 0]);
        mark.span = [Math.min(mark.bar[0], x - 8),
          Math.max(mark.bar[1], x + 8)];
      }
      return mark;
    }).filter((m) => m.x !== null && m.t !== "unknown");
    // Lines of the gutters, so that no name runs into another mark.
    for (const gutter of ["0", "inf"]) {
      const ends = queue[gutter] = [];
      for (const mark of marks.filter((m) => m.t === gutter)
        .sort((a, b) => a.span[0] - b.span[0])) {
        let [low, high] = mark.span;
        const wide = widthOf(mark.p.label) + 10;
        if (high + wide > width) low -= wide; else high += wide;
        const free = ends.findIndex((end) => end <= low);
        mark.row = free < 0 ? ends.length : free;
        ends[mark.row] = high;
      }
    }
    const tall = (g) => 6 + ROW * Math.max(2, queue[g].length);
    const bottom = paper.height - paper.foot;
    paper.y = [bottom - tall("0"), paper.head + tall("inf")];
    const up = (k) => paper.y[0] - ((paper.y[0] - paper.y[1])
      * (k - paper.fy[0])) / (paper.fy[1] - paper.fy[0]);
    for (const mark of marks) {
      const down = 3 + ROW * (mark.row + 0.5);
      mark.y = mark.t === "inside" ? up(Math.log10(mark.p.rsrc_t))
        : (mark.t === "inf" ? paper.head : paper.y[0]) + down;
      const ends = [mark.p.rsrc_t_p5, mark.p.rsrc_t_p95];
      if (mark.t === "inside" && !ends.includes(null)) {
        mark.whisker = ends.map((v) => place(v) !== "inside"
          ? paper.y[v > 0 ? 1 : 0]
          : Math.min(Math.max(up(Math.log10(v)), paper.y[1]), paper.y[0]));
      }
    }
    return { ...paper, across, up, bottom, marks };
  }

  function axes(map) {
    const { small, axis, width, head, bottom, x, y, fx, fy, across, up } = map;
    const box = (left, top, right, low) => draw("rect", {
      x: left, y: top, width: right - left, height: low - top, fill: GUTTER });
    const group = draw("g", {}, box(axis, head, width, y[1]),
      box(axis, y[0], width, bottom), box(axis, y[1], x[0], y[0]));
    const soft = { fill: "#616e7c", "font-size": 12 };
    const ticks = ([low, high], most) => {
      const all = [];
      for (let k = Math.ceil(low); k <= high; k++) all.push(k);
      const step = Math.ceil(all.length / most);
      return all.filter((k) => k % step === 0);
    };
    for (const k of ticks(fx, small ? 5 : 9)) {
      group.append(path([[across(k), y[0]], [across(k), y[1]]],
        { stroke: "#eef0f2" }), write(`10${raised(k)}`, across(k), bottom + 17,
        { ...soft, "text-anchor": "middle" }));
    }
    const beside = { ...soft, "text-anchor": "end" };
    for (const k of ticks(fy, 9)) {
      group.append(write(`10${raised(k)}`, axis - 6, up(k) + 4, beside));
    }
    const tiny = { ...beside, "font-size": 11 };
    const middle = [(head + y[1]) / 2, (bottom + y[0]) / 2];
    group.append(
      write("∞", axis - 6, middle[0] - 1, beside),
      write(small ? "E_t = 0" : "no training", axis - 6, middle[0] + 13, tiny),
      write("≤ 0", axis - 6, middle[1] - 1, beside),
      write("no gain", axis - 6, middle[1] + 13, tiny),
      write("0: no bits", (axis + x[0]) / 2, bottom + 17,
        { ...soft, "text-anchor": "middle" }),
      write("RSRC_i (ours), bit/J", (axis + width) / 2, bottom + 42,
        { fill: "#3e4c59", "font-size": 13, "text-anchor": "middle" }),
      path([[axis, head], [axis, bottom], [width, bottom]],
        { stroke: "#9aa5b1" }));
    const title = { fill: "#3e4c59", "font-size": 13 };
    group.append(write("RSRC_t(n) (ours), bit/J", 0, 0, small
      ? { ...title, transform: "translate(0 14)" }
      : { ...title, "text-anchor": "middle",
        transform: `translate(13 ${(head + bottom) / 2}) rotate(-90)` }));
    return group;
  }

  const lifeOf = (k) => k < 0 || k > 4 ? `10${raised(k)}`
    : (10 ** k).toLocaleString("en");
  function lines(map) {
    const group = draw("g", {}), { fx, fy, across, up } = map;
    const found = [];
    for (let k = Math.floor(fy[0]) - 1; k < Math.min(fx[1], fy[1]); k++) {
      const line = isoLife(10 ** k, fx, fy);
      if (line.length) found.push([k, line]);
    }
    const step = Math.max(1, Math.ceil(found.length / 8));
    for (const [k, line] of found.filter(([k]) => k % step === 0)) {
      const spots = line.map(([x, y]) => [across(x), up(y)]);
      const [x, y] = spots[spots.length - 1];
      const inside = x < map.x[1] - 1;  // it leaves through the bottom
      group.append(path(spots, { stroke: ISO, class: "iso" }),
        write(`life ${lifeOf(k)} bit/J`, inside ? x + 4 : x - 4, y - 4,
          { fill: "#627d98", "font-size": 11, "font-style": "italic",
            "text-anchor": inside ? "start" : "end" }));
    }
    const [low, high] = [Math.max(fx[0], fy[0]), Math.min(fx[1], fy[1])];
    if (low < high) {
      group.append(path([low, high].map((k) => [across(k), up(k)]),
        { stroke: FAINT, "stroke-dasharray": "1 3" }));
    }
    return group;
  }

  function stairs(map, members, dash) {
    const spots = map.marks.filter((m) => members.includes(m.p))
      .map((m) => [m.x, m.y]).sort((a, b) => a[0] - b[0]);
    if (!spots.length) return "";
    const steps = [[map.axis, spots[0][1]]];
    for (const spot of spots) {
      steps.push([steps[steps.length - 1][0], spot[1]], spot);
    }
    steps.push([spots[spots.length - 1][0], map.bottom]);
    return path(steps, { stroke: FRONT, "stroke-width": 2, class: "front",
      "stroke-dasharray": dash });
  }

  // A name goes where it covers least.
  function nameOf(map, mark, taken) {
    const { p, x, y, span, t, i } = mark, wide = widthOf(p.label) + 2;
    const fits = span[1] + wide + 8 <= map.width;
    let sides = [[fits ? span[1] + 4 : span[0] - wide - 4, y]];
    if (t === "inside" && i !== "0") {
      const near = [0, 12, -12, 26, -26];
      sides = [...near.map((d) => [x + 10, y + d]),
        ...near.map((d) => [x - 10 - wide, y + d]),
        ...[16, -16, 32, -32].map((d) => [x - wide / 2, y + d]),
        [span[1] + 5, y], [span[0] - wide - 5, y]];
    }
    const boxes = sides.map(([a, b]) => [a, b - 8, a + wide, b + 8]);
    const cost = (b, rank) => rank / 10 + 99 * (Math.max(map.axis - b[0], 0)
      + Math.max(b[2] - map.width, 0) + Math.max(map.head - b[1], 0)
      + Math.max(b[3] - map.bottom, 0)) + taken.reduce((sum, o) => sum
      + Math.max(Math.min(b[2], o[2]) - Math.max(b[0], o[0]), 0)
      * Math.max(Math.min(b[3], o[3]) - Math.max(b[1], o[1]), 0), 0);
    const costs = boxes.map(cost), best = costs.indexOf(Math.min(...costs));
    taken.push(boxes[best]);
    return write(p.label, sides[best][0], sides[best][1] + 4, {
      fill: data.looks[p.name][0], "font-size": 12, class: "name",
      "font-weight": p.name === data.headline ? 700 : 400 });
  }

  function markOf(mark) {
    const { p, x, y, bar, whisker } = mark;
    const [color, marker] = data.looks[p.name];
    const thin = { stroke: color, "stroke-width": 1.6 };
    const group = draw("g", { class: "mark", tabindex: 0, role: "img",
      "aria-label": facts(p).map((row) => row.join(" ")).join("; "),
      "data-name": p.name });
    if (bar) group.append(path(bar.map((at) => [at, y]), thin));
    if (whisker) group.append(path(whisker.map((at) => [x, at]), thin));
    group.append(draw("circle", { cx: x, cy: y, r: 14, class: "reach" }),
      shape(marker, x, y, { stroke: color, "stroke-width": 2,
        fill: data.measured.includes(p.name) ? color : "#fff" }));
    for (const event of ["mouseenter", "focus", "click"]) {
      group.addEventListener(event, () => show(mark));
    }
    for (const event of ["mouseleave", "blur"]) {
      group.addEventListener(event, () => { tip.hidden = true; });
    }
    return group;
  }

  const boxesOf = ({ x, y, bar, whisker }) => [
    [x - 7, y - 7, x + 7, y + 7],
    ...(bar ? [[bar[0], y - 2, bar[1], y + 2]] : []),
    ...(whisker ? [[x - 2, whisker[1], x + 2, whisker[0]]] : [])];

  // Every number of a mark.
  function facts(p) {
    const rows = [[p.label, p.kind],
      ["RSRC_i (ours), bit/J", spread(p, "rsrc_i")],
      ["RSRC_t(n) (ours), bit/J", spread(p, "rsrc_t")],
      ["RSRC_life(n) (ours), bit/J", spread(p, "rsrc_life")],
      ["n, samples served", count(p.samples_served)],
      ["bits saved", spread(p, "bits_saved")], ["k, bits", short(p.k)],
      ["bits saved, frozen model", spread(p, "bits_saved_frozen")],
      ["J a sample, C + D", spread(p, "joules")],
      ["of these C", spread(p, "joules_C")],
      ["of these D", spread(p, "joules_D")],
      ["training, J", spread(p, "training_joules")],
      ["training, FLOPs", short(p.training_flops)],
      ["wire, bits", short(p.wire_bits)],
      ["residual, bits", short(p.residual_bits)],
      ["decades from Landauer, i and t",
        `${short(p.log10_eta_i)} and ${short(p.log10_eta_t)}`],
      ["m*, by joules and by FLOPs",
        `${short(p.m_star_joules)} and ${short(p.m_star_flops)}`],
      ["state, bits", short(p.state_bits)],
      ["n k − state, bits", short(p.net_bits)],
      ["break-even samples (state)", short(p.break_even_samples)]];
    for (const key of Object.keys(p).filter((k) => k.startsWith("n_star_"))) {
      const peer = key.slice(7).replace(/_/g, " ");
      rows.push([`n* against ${peer}`, short(p[key])]);
    }
    return [...rows, ["source of the joules", p.source]];
  }

  function show(mark) {
    const rows = facts(mark.p).filter(([, v]) => !/^—( and —)?$/.test(v));
    tip.replaceChildren(...rows.map(([name, value], i) =>
      html("div", i ? {} : { class: "title" }, html("span", {}, name),
        html("b", {}, value))));
    tip.hidden = false;
    const wide = tip.offsetWidth, left = mark.x + 18;
    const room = stage.clientWidth;
    tip.style.left = `${Math.max(0, left + wide > room
      ? Math.min(mark.x - 18 - wide, room - wide) : left)}px`;
    tip.style.top = `${Math.max(0, Math.min(mark.y - 40,
      stage.clientHeight - tip.offsetHeight))}px`;
  }

  function table(points, n, members) {
    const share = (p) => untrained(p) ? 0 : p.training_joules === null
      || p.joules === null ? null
      : (100 * p.training_joules) / (p.training_joules + n * p.joules);
    const rank = (p) => p.rsrc_life === null ? -1 : p.rsrc_life;
    const rows = [...points].sort((a, b) => rank(b) - rank(a)).map((p) => {
      const part = share(p);
      const cells = [short(p.rsrc_life), short(p.rsrc_t), short(p.rsrc_i),
        part === null ? "—" : `${part.toFixed(1)} %`,
        members[0].includes(p) ? "of all"
          : members[1].includes(p) ? "of trained arms" : ""];
      const name = html("b", {}, p.label);
      name.style.borderColor = data.looks[p.name][0];
      return html("tr", { "data-name": p.name },
        html("th", { scope: "row" }, name),
        ...cells.map((cell) => html("td", {}, cell)));
    });
    find("lives").replaceChildren(...rows);
  }

  function volume() {
    const declared = Math.log10(data.samples);
    // The slider's grid does not meet the declared n: near it, it is meant.
    return Math.abs(slider.value - declared) < 0.006 ? data.samples
      : Number((10 ** slider.value).toPrecision(3));
  }

  function render() {
    const n = volume(), points = data.points.map((p) => at(p, n));
    const map = layOut(points, Math.max(stage.clientWidth, 320));
    const members = [front(points), front(points.filter((p) => !untrained(p)))];
    const taken = map.marks.flatMap(boxesOf);
    const order = [...map.marks].sort((a, b) =>
      (a.p.name === data.headline) - (b.p.name === data.headline));
    const svg = draw("svg", { viewBox: `0 0 ${map.width} ${map.height}`,
      width: map.width, height: map.height, role: "group",
      "aria-label": `Survival map for n = ${count(n)} samples served` },
    axes(map), lines(map), stairs(map, members[1], "5 4"),
    stairs(map, members[0], "none"), ...order.map(markOf),
    ...order.map((mark) => nameOf(map, mark, taken)));
    tip.hidden = true;
    stage.replaceChildren(svg, tip);
    find("count").textContent = `n = ${count(n)}`;
    slider.setAttribute("aria-valuetext", `${count(n)} samples served`);
    table(points, n, members);
  }

  const ratios = data.points.filter((p) => !untrained(p) && p.joules > 0)
    .map((p) => Math.log10(p.training_joules / p.joules))
    .filter(Number.isFinite);
  slider.max = Math.ceil(Math.max(Math.log10(data.samples) + 2, ...ratios) + 2);
  const reset = () => { slider.value = Math.log10(data.samples); render(); };
  slider.addEventListener("input", render);
  find("reset").addEventListener("click", reset);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") tip.hidden = true;
  });
  find("fixed").hidden = true;
  find("live").hidden = false;
  reset();
  let before = stage.clientWidth;
  new ResizeObserver(() => {
    if (stage.clientWidth !== before) {
      before = stage.clientWidth;
      render();
    }
  }).observe(stage);
})();
