// Values as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const count = (n) => (n === null || n === undefined ? "–" : whole.format(n));

export function short(n) {
  if (n === null || n === undefined) return "–";
  const size = Math.abs(n);
  if (size >= 1e9) return `${digits(n / 1e9)} G`;
  if (size >= 1e6) return `${digits(n / 1e6)} M`;
  if (size >= 1e4) return `${digits(n / 1e3)} k`;
  return size >= 100 || Number.isInteger(n) ? whole.format(n) : digits(n);
}

function digits(n) {
  return Number(n.toPrecision(3)).toString();
}

export function bytes(n) {
  if (n === null || n === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (Math.abs(n) >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit += 1;
  }
  return `${unit === 0 || n >= 100 ? Math.round(n) : digits(n)} ${units[unit]}`;
}

export function ms(n) {
  if (n === null || n === undefined) return "–";
  if (n >= 1000) return `${digits(n / 1000)} s`;
  if (n >= 0.1 || n === 0) return `${digits(n)} ms`;
  return `${digits(n * 1000)} µs`;
}

export function percent(share) {
  if (share === null || share === undefined) return "–";
  const value = share * 100;
  if (value > 99.9 && value < 100) return "99.9 %"; // not all is not 100 %
  return `${value >= 99.95 || value === 0 ? value.toFixed(0) : value.toFixed(1)} %`;
}

export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}

export function ago(seconds) {
  const past = Math.max(0, seconds);
  if (past < 90) return `${Math.round(past)} s`;
  if (past < 5400) return `${Math.round(past / 60)} min`;
  if (past < 172800) return `${Math.round(past / 3600)} h`;
  return `${Math.round(past / 86400)} d`;
}

export const words = (name) => name.replaceAll("_", " ");

/** JSON text; big integers as they are. */
export function json(value, indent = 0) {
  const big = [];
  const text = JSON.stringify(
    value,
    (_, one) => {
      if (typeof one !== "bigint") return one;
      big.push(one.toString());
      return `\u0000${big.length - 1}\u0000`;
    },
    indent,
  );
  return big.length ? text.replace(/"\\u0000(\d+)\\u0000"/g, (_, i) => big[i]) : text;
}
