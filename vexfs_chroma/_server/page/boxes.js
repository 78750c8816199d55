// Boxes of distributions, one under the other on a logarithmic axis, and a bar of parts.

import { Canvas, logTicks, scaleOf } from "./charts.js";
import { h } from "./dom.js";

const LEFT = 74;
const RIGHT = 14;
const ROW = 24;
const BOTTOM = 24;

/**
 * Distributions.  set([{ name, color, p5, p25, p50, p75, p95, min, max }]): a box from p25 to p75
 * with the median in it, lines to p5 and p95.
 */
export class BoxChart extends Canvas {
  constructor(label, { format }) {
    super(label, ROW + BOTTOM);
    this.label = label;
    this.format = format;
    this.rows = [];
    this.canvas.addEventListener("pointermove", (event) => {
      this.row = Math.floor((event.offsetY - 4) / ROW);
      this.draw();
    });
  }

  set(rows) {
    this.rows = rows;
    this.height = rows.length * ROW + BOTTOM + 8;
    this.element.style.height = `${this.height}px`;
    const told = rows.map((one) => `${one.name} median ${this.format(one.p50)}`);
    this.canvas.setAttribute("aria-label", `${this.label}. ${told.join(", ")}`);
    this.draw();
  }

  move(step) {
    this.row = Math.min(this.rows.length - 1, Math.max(0, (this.row ?? (step > 0 ? -1 : 1)) + step));
    this.pointer = LEFT;
    this.draw();
  }

  paint(context) {
    if (!this.rows.length) return;
    const least = Math.min(...this.rows.map((one) => one.p5));
    const most = Math.max(...this.rows.map((one) => one.p95));
    const marks = logTicks(Math.max(least, 1e-4), Math.max(most, 2e-4));
    const atX = scaleOf(marks, LEFT, this.width - RIGHT, true);
    const bottom = this.height - BOTTOM;
    context.textBaseline = "middle";
    let taken = -Infinity;
    for (const mark of marks) {
      const x = Math.round(atX(mark)) + 0.5;
      context.strokeStyle = this.color("grid");
      context.beginPath();
      context.moveTo(x, 4);
      context.lineTo(x, bottom);
      context.stroke();
      const text = this.format(mark);
      const wide = context.measureText(text).width;
      const left = Math.min(Math.max(x - wide / 2, 2), this.width - wide - 2);
      if (left < taken + 10) continue;
      taken = left + wide;
      context.fillStyle = this.color("muted");
      context.textAlign = "left";
      context.fillText(text, left, bottom + 14);
    }
    this.rows.forEach((one, i) => this.paintRow(context, one, 4 + i * ROW + ROW / 2, atX));
    const one = this.pointer === null ? undefined : this.rows[this.row];
    if (!one) this.hideTip();
    else {
      const names = ["min", "p5", "p25", "p50", "p75", "p95", "p99", "max"];
      const parts = names.map((name) => h("div", {}, `${name} `, h("b", {}, this.format(one[name]))));
      this.showTip(Math.min(this.pointer, this.width - 20), [h("b", {}, one.name), ...parts]);
    }
  }

  paintRow(context, one, y, atX) {
    const color = this.color(one.color);
    context.fillStyle = this.color("text");
    context.textAlign = "right";
    context.fillText(one.name, LEFT - 10, y);
    context.strokeStyle = color;
    context.lineWidth = 1.5;
    context.beginPath();
    context.moveTo(atX(one.p5), y);
    context.lineTo(atX(one.p95), y);
    context.stroke();
    const [from, to] = [atX(one.p25), atX(one.p75)];
    context.fillStyle = this.color("panel");
    context.fillRect(from, y - 6, Math.max(2, to - from), 12);
    context.globalAlpha = 0.35;
    context.fillStyle = color;
    context.fillRect(from, y - 6, Math.max(2, to - from), 12);
    context.globalAlpha = 1;
    context.strokeRect(from, y - 6, Math.max(2, to - from), 12);
    context.lineWidth = 2.5;
    context.beginPath();
    context.moveTo(atX(one.p50), y - 7);
    context.lineTo(atX(one.p50), y + 7);
    context.stroke();
  }
}

/** One bar of parts: [{ name, color, value }], as elements; widths are shares of the sum. */
export function partsBar(parts, label) {
  const total = parts.reduce((sum, one) => sum + one.value, 0) || 1;
  const bar = h("div", { class: "parts", role: "img", "aria-label": label });
  for (const one of parts) {
    if (one.value / total < 0.002) continue;
    const piece = h("span", { class: `fill ${one.color}`, title: one.name });
    piece.style.flexGrow = one.value / total;
    bar.append(piece);
  }
  return bar;
}

/** A share as a short bar with its number. */
export function shareBar(share, text) {
  const inner = h("span");
  inner.style.width = `${Math.round(Math.min(1, Math.max(0, share)) * 100)}%`;
  return h("span", { class: "share" }, h("span", { class: "share-bar" }, inner), h("span", {}, text));
}
