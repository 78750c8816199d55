// Charts on a canvas: lines over a linear or logarithmic axis, with a reading under the pointer or
// the arrow keys.  Colours are variables of the style sheet, so that charts follow its themes.

import { fill, h } from "./dom.js";

const LEFT = 52;
const RIGHT = 12;
const TOP = 10;
const BOTTOM = 24;

const dark = matchMedia("(prefers-color-scheme: dark)");

/** A canvas that is drawn again when its size, its theme or its data change. */
export class Canvas {
  constructor(label, height) {
    this.canvas = h("canvas", { role: "img", "aria-label": label, tabIndex: 0 });
    this.tip = h("div", { class: "tip", hidden: true });
    this.element = h("div", { class: "chart" }, this.canvas, this.tip);
    this.element.style.height = `${height}px`;
    this.height = height;
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.element);
    this.onTheme = () => this.draw();
    dark.addEventListener("change", this.onTheme);
    this.pointer = null;
    this.canvas.addEventListener("pointermove", (event) => this.point(event.offsetX));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.canvas.addEventListener("blur", () => this.point(null));
    this.canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.move(step);
    });
  }

  close() {
    this.observer.disconnect();
    dark.removeEventListener("change", this.onTheme);
  }

  color(name) {
    return this.style.getPropertyValue(`--${name}`).trim();
  }

  point(x) {
    this.pointer = x;
    this.draw();
  }

  move() {}

  draw() {
    const width = this.element.clientWidth;
    if (!width) return;
    const scale = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(this.height * scale);
    const context = this.canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    this.style = getComputedStyle(this.element);
    context.font = `11px ${this.style.fontFamily}`;
    context.lineJoin = "round";
    this.width = width;
    this.paint(context);
  }

  showTip(x, lines) {
    fill(this.tip, ...lines);
    this.tip.hidden = false;
    const wide = this.tip.offsetWidth;
    const left = x + 14 + wide > this.width ? x - 14 - wide : x + 14;
    this.tip.style.left = `${Math.max(0, left)}px`;
    this.tip.style.top = `${TOP}px`;
  }

  hideTip() {
    this.tip.hidden = true;
  }
}

/** Round numbers from 0 to at least `most`, about `n` of them. */
export function ticks(least, most, n = 4) {
  const rough = (most - least) / n || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find((one) => one * power >= rough) * power;
  const found = [];
  for (let i = Math.floor(least / step + 1e-9); ; i++) {
    found.push(Number((i * step).toPrecision(12)));
    if (i * step >= most - step * 1e-9) return found;
  }
}

/** Powers of ten, or 1-2-5 where there is room, that enclose the range. */
export function logTicks(least, most) {
  const from = Math.floor(Math.log10(least));
  const to = Math.ceil(Math.log10(most));
  const steps = to - from > 2 ? [1] : [1, 2, 5];
  const found = [];
  for (let power = from; power <= to; power++) {
    for (const step of steps) found.push(Number((step * 10 ** power).toPrecision(6)));
  }
  const first = found.findLastIndex((tick) => tick <= least * 1.0001);
  const last = found.findIndex((tick) => tick >= most * 0.9999);
  return found.slice(Math.max(0, first), last < 0 ? undefined : Math.max(last, first + 1) + 1);
}

/** A scale from values to pixels. */
export function scaleOf(marks, from, to, log) {
  const f = log ? Math.log10 : (value) => value;
  const low = f(marks[0]);
  const high = f(marks.at(-1));
  return (value) => from + ((f(value) - low) / (high - low || 1)) * (to - from);
}

/**
 * Lines.  set({ x: [..], series: [{ name, color, values: [..|null], dots }] }).
 *
 * options: `format` of values, `formatX`, `log` and `logX` axes, `least` and `most` of y, `ticksX`
 * (the marks; without them about five), `from` and `to` of x (without them the data's), `empty` (what is said where nothing is),
 * `rule` of set(): a vertical line, { at, label }.
 */
export class LineChart extends Canvas {
  constructor(label, options) {
    super(label, options.height ?? 200);
    this.options = options;
    this.label = label;
    this.data = { x: [], series: [] };
    this.index = null;
  }

  set(data) {
    this.data = data;
    this.draw();
    const last = data.x.length - 1;
    const told = data.series
      .map((one) => [one.name, one.values[last]])
      .filter(([, value]) => value !== null && value !== undefined)
      .map(([name, value]) => `${name} ${this.options.format(value)}`);
    this.canvas.setAttribute(
      "aria-label",
      `${this.label}. ${told.length ? `Latest: ${told.join(", ")}` : this.options.empty || ""}`,
    );
  }

  move(step) {
    const { x } = this.data;
    if (!x.length) return;
    const start = step > 0 ? -1 : x.length;
    this.index = Math.min(x.length - 1, Math.max(0, (this.index ?? start) + step));
    this.pointer = this.atX(x[this.index]);
    this.draw();
  }

  bounds() {
    const { options, data } = this;
    const values = data.series
      .flatMap((one) => one.values)
      .filter((value) => value !== null && value !== undefined && (!options.log || value > 0));
    if (!values.length) return null;
    const most = options.most ?? Math.max(...values);
    const least = options.least ?? (options.log ? Math.min(...values) : 0);
    return options.log ? logTicks(least, most) : ticks(least, Math.max(most, least + 1e-9));
  }

  paint(context) {
    const { options, data } = this;
    const marks = this.bounds();
    if (!marks || !data.x.length) {
      context.fillStyle = this.color("muted");
      context.textAlign = "center";
      context.fillText(options.empty || "Nothing yet.", this.width / 2, this.height / 2);
      this.hideTip();
      return;
    }
    const bottom = this.height - BOTTOM;
    const [from, to] = [options.from?.() ?? data.x[0], options.to?.() ?? data.x.at(-1)];
    this.atX = scaleOf([from, to], LEFT, this.width - RIGHT, options.logX);
    const atY = scaleOf(marks, bottom, TOP, options.log);
    this.paintAxes(context, marks, atY, from, to);
    context.save();
    context.beginPath();
    context.rect(LEFT - 4, 0, this.width - LEFT - RIGHT + 8, bottom + 4);
    context.clip();
    for (const one of data.series) this.paintLine(context, one, atY);
    context.restore();
    this.paintReading(context, atY);
  }

  paintAxes(context, marks, atY, from, to) {
    const { options, data } = this;
    const bottom = this.height - BOTTOM;
    context.textBaseline = "middle";
    context.textAlign = "right";
    context.lineWidth = 1;
    for (const mark of marks) {
      const y = Math.round(atY(mark)) + 0.5;
      context.strokeStyle = this.color("grid");
      context.beginPath();
      context.moveTo(LEFT, y);
      context.lineTo(this.width - RIGHT, y);
      context.stroke();
      context.fillStyle = this.color("muted");
      context.fillText((options.formatTick ?? options.format)(mark), LEFT - 8, y);
    }
    const n = Math.max(2, Math.min(6, Math.floor(this.width / 110)));
    const at = options.ticksX?.(data) ?? Array.from({ length: n }, (_, i) => from + ((to - from) * i) / (n - 1));
    let taken = -Infinity;
    for (const value of at) {
      const x = this.atX(value);
      const text = options.formatX(value);
      const wide = context.measureText(text).width;
      const left = Math.min(Math.max(x - wide / 2, 2), this.width - wide - 2);
      if (left < taken + 10) continue;
      taken = left + wide;
      context.textAlign = "left";
      context.fillText(text, left, bottom + 14);
    }
    if (data.rule) this.paintRule(context, data.rule, bottom);
  }

  paintRule(context, rule, bottom) {
    const x = Math.round(this.atX(rule.at)) + 0.5;
    context.save();
    context.strokeStyle = this.color("muted");
    context.setLineDash([4, 4]);
    context.beginPath();
    context.moveTo(x, TOP);
    context.lineTo(x, bottom);
    context.stroke();
    context.restore();
    const wide = context.measureText(rule.label).width;
    context.textAlign = "left";
    context.fillText(rule.label, x + 6 + wide > this.width - RIGHT ? x - 6 - wide : x + 6, bottom - 10);
  }

  paintLine(context, one, atY) {
    const { data, options } = this;
    context.strokeStyle = context.fillStyle = this.color(one.color);
    context.lineWidth = 1.75;
    context.setLineDash(one.dash ?? []);
    context.beginPath();
    let down = false;
    const alone = [];
    one.values.forEach((value, i) => {
      if (value === null || value === undefined || (options.log && value <= 0)) {
        down = false;
        return;
      }
      const [x, y] = [this.atX(data.x[i]), atY(value)];
      if (down) context.lineTo(x, y);
      else context.moveTo(x, y);
      const next = one.values[i + 1];
      if (one.dots || (!down && (next === null || next === undefined))) alone.push([x, y]);
      down = true;
    });
    context.stroke();
    context.setLineDash([]);
    for (const [x, y] of alone) {
      context.beginPath();
      context.arc(x, y, one.dots ? 3.5 : 1.5, 0, 7);
      context.fill();
    }
  }

  paintReading(context, atY) {
    const { data, options } = this;
    if (this.pointer === null) {
      this.index = null;
      this.hideTip();
      return;
    }
    let best = 0;
    data.x.forEach((value, i) => {
      const distance = Math.abs(this.atX(value) - this.pointer);
      if (distance < Math.abs(this.atX(data.x[best]) - this.pointer)) best = i;
    });
    this.index = best;
    const x = this.atX(data.x[best]);
    context.strokeStyle = this.color("muted");
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(Math.round(x) + 0.5, TOP);
    context.lineTo(Math.round(x) + 0.5, this.height - BOTTOM);
    context.stroke();
    const lines = [h("b", {}, (options.tipX ?? options.formatX)(data.x[best]))];
    for (const one of data.series) {
      const value = one.values[best];
      if (value === null || value === undefined) continue;
      context.fillStyle = this.color(one.color);
      context.beginPath();
      context.arc(x, atY(options.log ? Math.max(value, 1e-9) : value), 3, 0, 7);
      context.fill();
      lines.push(h("div", {}, swatch(one.color), `${one.name} `, h("b", {}, options.format(value))));
    }
    if (lines.length === 1) lines.push(h("div", { class: "muted" }, options.idle ?? "nothing"));
    this.showTip(x, lines);
  }
}

export function swatch(color) {
  return h("i", { class: `swatch ${color}` });
}

export function legend(series) {
  return h("div", { class: "legend" }, ...series.map((one) => h("span", {}, swatch(one.color), one.name)));
}
