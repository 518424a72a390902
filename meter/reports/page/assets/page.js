"use strict";
// Shows what Python counted. Nothing here computes money but by whole numbers (BigInt), exactly.
(() => {
  const ROW_HEIGHT = 32;
  const SPARE_ROWS = 12;
  const MOST_PICKED = 200;
  const MOST_PRINTED = 500;
  const byId = (id) => document.getElementById(id);
  const make = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "text") element.textContent = value;
      else if (value === true) element.setAttribute(key, "");
      else if (value !== false && value !== null) element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
  };
  const grouped = (digits) => digits.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  const whole = (number) => grouped(String(number));

  // ---- colours -------------------------------------------------------------------------------
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  let isPrinting = false;
  const isDark = () => (document.documentElement.dataset.scheme || (prefersDark.matches ? "dark" : "light")) === "dark";
  const probe = make("span", { hidden: true });
  document.body.append(probe);
  const colour = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const initScheme = () => {
    const button = byId("scheme");
    const remember = (value) => { try { localStorage.setItem("aoai-meter-scheme", value); } catch { /* a page from a file may have no storage */ } };
    const recall = () => { try { return localStorage.getItem("aoai-meter-scheme"); } catch { return null; } };
    const label = () => { button.textContent = isDark() ? "Light colours" : "Dark colours"; };
    const saved = recall();
    if (saved === "light" || saved === "dark") document.documentElement.dataset.scheme = saved;
    button.hidden = false;
    button.addEventListener("click", () => {
      const next = isDark() ? "light" : "dark";
      document.documentElement.dataset.scheme = next;
      remember(next);
      label();
      redraw();
    });
    prefersDark.addEventListener("change", () => { label(); redraw(); });
    label();
  };

  // ---- charts --------------------------------------------------------------------------------
  const charts = [];
  const redraw = () => charts.forEach((chart) => chart.draw());
  const short = (value) => {
    const size = Math.abs(value);
    for (const [unit, sign] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
      if (size >= unit) return `${Number((value / unit).toPrecision(3))}${sign}`;
    }
    return String(Number(value.toPrecision(3)));
  };
  const shortWindow = (name) => (name.includes("T") ? `${name.slice(11)}:00` : name.length > 7 ? name.slice(5) : name);

  const chart = (id, windows, makeSeries, describe) => {
    const place = byId(id);
    const readout = byId(id.replace("chart", "readout"));
    if (!place) return;
    readout.hidden = false;
    let plot = null;
    const idle = "Point at a bar for its numbers.";
    const show = (index) => {
      if (index === null || index === undefined) { readout.textContent = idle; return; }
      readout.replaceChildren(...describe(index));
    };
    const draw = () => {
      if (plot) plot.destroy();
      const width = isPrinting ? 670 : Math.max(260, place.clientWidth);
      const { data, series } = makeSeries();
      const axis = { stroke: colour("muted"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
      plot = new uPlot({
        width, height: 220, ms: 1, series: [{}, ...series], legend: { show: false },
        padding: [8, 8, 0, 0],
        cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
        scales: { x: { time: false, range: () => [-0.6, windows.length - 0.4] }, y: { range: (_, low, high) => [Math.min(0, low || 0), (high || 1) * 1.05] } },
        axes: [
          { ...axis, size: 28, grid: { show: false }, space: 60, incrs: [1, 2, 3, 4, 6, 7, 12, 14, 24, 31, 48, 90, 180], values: (_, splits) => splits.map((at) => (Number.isInteger(at) && windows[at] ? shortWindow(windows[at]) : "")) },
          { ...axis, size: 56, values: (_, splits) => splits.map(short) },
        ],
        hooks: { setCursor: [(self) => show(self.cursor.left >= 0 ? self.cursor.idx : null)] },
      }, data, place);
      show(null);
    };
    charts.push({ draw });
    draw();
    let before = place.clientWidth;
    new ResizeObserver(() => {
      if (!isPrinting && place.clientWidth !== before) { before = place.clientWidth; draw(); }
    }).observe(place);
  };

  const initCharts = () => {
    const drawn = JSON.parse(byId("drawn").textContent);
    if (!byId("tokens-chart")) return;
    if (typeof uPlot === "undefined") {
      document.querySelector(".numbers").open = true;
      return;
    }
    const windows = drawn.windows;
    const places = windows.map((_, place) => place);
    const cells = [...byId("moments").tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.textContent));
    const bars = uPlot.paths.bars({ size: [0.7, 40], align: 0 });
    const bar = (fill) => ({ fill, stroke: fill, width: 0, paths: bars, points: { show: false } });
    const bold = (text) => make("b", { text });
    chart("tokens-chart", windows, () => {
      const low = drawn.uncached;
      const middle = low.map((value, at) => value + drawn.cached[at]);
      const high = middle.map((value, at) => value + drawn.completion[at]);
      // The highest first: the others are drawn over it.
      return { data: [places, high, middle, low], series: [bar(colour("k3")), bar(colour("k2")), bar(colour("k1"))] };
    }, (at) => [bold(cells[at][0]), `: ${cells[at][2]} input, ${cells[at][3]} cached, ${cells[at][4]} output, `, bold(`${cells[at][5]} tokens`), ` in ${cells[at][1]} calls`]);
    if (drawn.cost) {
      chart("cost-chart", windows, () => {
        const line = (stroke, dash) => ({ stroke, width: 2, dash, points: { show: windows.length === 1 }, spanGaps: false });
        // Amounts are exact texts; how high they are drawn need not be.
        const height = (amount) => (amount === null ? null : Number(amount));
        const data = [places, drawn.cost.map(height), drawn.reached.map(height)];
        const series = [bar(colour("k1")), line(colour("k4"))];
        if (drawn.budget !== null) {
          data.push(places.map(() => height(drawn.budget)));
          series.push(line(colour("alert"), [6, 4]));
        }
        return { data, series };
      }, (at) => [bold(`${cells[at][0]}: ${cells[at][6]}`), `, month to date ${cells[at][7]}`]);
    }
  };

  // ---- data ----------------------------------------------------------------------------------
  const unpack = async () => {
    const packed = atob(byId("packed").textContent);
    const bytes = new Uint8Array(packed.length);
    for (let at = 0; at < packed.length; at += 1) bytes[at] = packed.charCodeAt(at);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  };

  class Column {
    constructor(given, table) {
      Object.assign(this, given);
      this.table = table;
      if (this.type === "text") this.readTexts();
      else if (this.type === "amount") this.isLarge = this.numbers.some((each) => typeof each === "string");
    }

    readTexts() {
      const codes = new Uint32Array(this.codes.length);
      let code = 0;
      for (let row = 0; row < codes.length; row += 1) { code += this.codes[row]; codes[row] = code; }
      this.codes = codes;
      this.display = this.texts.map((text, place) => this.printed[place] ?? text);
      this.words = this.display.map((text, place) => `${text}\n${this.texts[place]}\n${this.notes?.[place] || ""}`.toLowerCase());
    }

    ranks() {
      if (!this.ranked) {
        const collator = new Intl.Collator("en", { numeric: true });
        const order = this.texts.map((_, place) => place);
        order.sort((a, b) => collator.compare(this.texts[a], this.texts[b]) || (this.texts[a] < this.texts[b] ? -1 : 1));
        this.ranked = new Uint32Array(order.length);
        order.forEach((place, rank) => { this.ranked[place] = rank; });
      }
      return this.ranked;
    }

    value(row) {
      if (this.sumOf) return this.sumOf.reduce((sum, name) => sum + this.table.byName[name].numbers[row], 0);
      return this.numbers[row];
    }

    /** What compares as the rows' values do; null is below all. */
    sortKeys() {
      const rows = this.table.count;
      if (this.type === "text") {
        const ranks = this.ranks();
        return Float64Array.from({ length: rows }, (_, row) => ranks[this.codes[row]]);
      }
      if (!this.isLarge) return Float64Array.from({ length: rows }, (_, row) => this.value(row) ?? -Infinity);
      const found = [...new Set(this.numbers)].sort((a, b) => {
        if (a === null || b === null) return a === null ? -1 : 1;
        const [x, y] = [BigInt(a), BigInt(b)];
        return x < y ? -1 : x > y ? 1 : 0;
      });
      const rank = new Map(found.map((value, place) => [value, place]));
      return Float64Array.from({ length: rows }, (_, row) => rank.get(this.numbers[row]));
    }

    /** Exact: numbers are added as such while that loses nothing. */
    sum(rows) {
      let sum = 0n;
      let part = 0;
      let known = this.type !== "amount";
      for (const row of rows) {
        const value = this.value(row);
        if (value === null) continue;
        known = true;
        if (typeof value === "number" && Math.abs(value) < 2 ** 51) {
          part += value;
          if (Math.abs(part) > 2 ** 51) { sum += BigInt(part); part = 0; }
        } else sum += BigInt(value);
      }
      return known ? sum + BigInt(part) : null;
    }

    /** What the rows' printed amounts add up to. */
    printedSum(rows) {
      const surplus = this.digits - this.table.currencyDigits;
      const unit = 10 ** surplus;
      let sum = 0n;
      let part = 0;
      for (const row of rows) {
        const value = this.value(row);
        if (value === null) continue;
        if (this.isLarge || surplus < 0 || surplus > 15) { sum += this.minor(BigInt(value)); continue; }
        const size = Math.abs(value);
        const rest = size % unit;
        let found = (size - rest) / unit;
        if (rest > unit - rest || (rest === unit - rest && found % 2 === 1)) found += 1;
        part += value < 0 ? -found : found;
        if (Math.abs(part) > 2 ** 51) { sum += BigInt(part); part = 0; }
      }
      return sum + BigInt(part);
    }

    minor(exact) {
      return this.table.rounded(exact, this.digits);
    }

    print(row) {
      if (this.type === "text") return this.display[this.codes[row]];
      const value = this.value(row);
      if (value === null) return "-";
      return this.type === "amount" ? this.table.money(this.minor(BigInt(value))) : whole(value);
    }

    csv(row) {
      if (this.type === "text") return quoted(guarded(this.texts[this.codes[row]]));
      const value = this.value(row);
      if (value === null) return "";
      return this.type === "amount" ? decimal(BigInt(value), this.digits) : String(value);
    }

    widest() {
      let most = this.heading.length + 3;
      if (this.type === "text") {
        this.display.forEach((text, place) => { most = Math.max(most, text.length + (this.notes?.[place] ? this.notes[place].length + 2 : 0)); });
        return Math.min(most, 28);
      }
      return Math.max(most, this.type === "amount" ? 12 : 9, this.totalText ? this.totalText.length + 1 : 0);
    }
  }

  const decimal = (number, digits) => {
    const sign = number < 0n ? "-" : "";
    const text = String(number < 0n ? -number : number).padStart(digits + 1, "0");
    const at = text.length - digits;
    const fraction = text.slice(at).replace(/0+$/, "");
    return sign + text.slice(0, at) + (fraction ? `.${fraction}` : "");
  };
  const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
  const UNSEEN = String.raw`\s"\u0000-\u001f\u007f-\u00a0\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\u{110bd}\u{110cd}\u{13430}-\u{1343f}\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}`;
  const FORMULA = new RegExp(String.raw`^(?=[\t\r\n])|(?:^|[;\t\r\n])(?=[${UNSEEN}]*[=+\-@＝＋－＠﹦﹢﹣﹫−])`, "gu");
  const guarded = (text) => text.replace(FORMULA, (found) => `${found}'`);

  // ---- the table -----------------------------------------------------------------------------
  class Table {
    constructor(document_) {
      this.count = document_.rows;
      this.currencyDigits = document_.currencyDigits;
      this.byName = {};
      this.columns = document_.columns.map((given) => new Column(given, this));
      for (const column of this.columns) this.byName[column.name] = column;
      this.picks = new Map();
      this.terms = [];
      this.sort = null;
      this.all = Uint32Array.from({ length: this.count }, (_, row) => row);
      this.scroller = byId("scroller");
      this.element = byId("table");
      this.arrange();
    }

    get shown() { return this.columns.filter((column) => column.shown); }

    get isFiltered() { return this.terms.length > 0 || this.picks.size > 0; }

    /** Half to even, as Python rounds what it prints. */
    rounded(exact, digits) {
      const surplus = digits - this.currencyDigits;
      if (surplus <= 0) return exact * 10n ** BigInt(-surplus);
      const unit = 10n ** BigInt(surplus);
      const size = exact < 0n ? -exact : exact;
      let found = size / unit;
      const twice = (size % unit) * 2n;
      if (twice > unit || (twice === unit && found % 2n === 1n)) found += 1n;
      return exact < 0n ? -found : found;
    }

    money(minor) {
      const sign = minor < 0n ? "-" : "";
      const text = String(minor < 0n ? -minor : minor).padStart(this.currencyDigits + 1, "0");
      const at = text.length - this.currencyDigits;
      return sign + grouped(text.slice(0, at)) + (this.currencyDigits ? `.${text.slice(at)}` : "");
    }

    /** Which rows are shown, in which order, and what they add up to. */
    arrange() {
      this.rows = this.isFiltered ? this.filtered() : this.all;
      if (this.sort) {
        const keys = (this.sort.column.keys ||= this.sort.column.sortKeys());
        const sign = this.sort.down ? -1 : 1;
        this.rows = this.rows.slice().sort((a, b) => sign * (keys[a] < keys[b] ? -1 : keys[a] > keys[b] ? 1 : 0) || a - b);
      }
      for (const column of this.columns) {
        if (column.type === "text") continue;
        const sum = column.sum(this.rows);
        if (column.type === "count") { column.totalText = whole(sum); continue; }
        column.totalText = "-";
        column.left = 0n;
        if (sum === null) continue;
        const total = column.minor(sum);
        column.totalText = this.money(total);
        column.left = total - column.printedSum(this.rows);
      }
    }

    filtered() {
      const texts = this.columns.filter((column) => column.type === "text");
      const tests = [];
      for (const [column, code] of this.picks) tests.push((row) => column.codes[row] === code);
      for (const term of this.terms) {
        const hits = texts.map((column) => column.words.map((words) => words.includes(term)));
        tests.push((row) => texts.some((column, at) => hits[at][column.codes[row]]));
      }
      return this.all.filter((row) => tests.every((test) => test(row)));
    }

    draw() {
      const table = this.element;
      const shown = this.shown;
      const columns = make("colgroup");
      let width = 0;
      for (const column of shown) {
        const size = column.widest();
        width += size;
        const col = make("col");
        col.style.width = `calc(${size}ch + 20px)`;
        columns.append(col);
      }
      table.querySelector("colgroup")?.remove();
      table.prepend(columns);
      table.style.minWidth = `calc(${width}ch + ${shown.length * 20}px)`;
      table.setAttribute("aria-rowcount", this.rows.length + 2);
      table.tHead.replaceChildren(make("tr", { "aria-rowindex": 1 }, ...shown.map((column) => this.head(column))));
      this.drawFoot();
      this.first = -1;
      this.drawRows();
    }

    head(column) {
      const isSorted = this.sort?.column === column;
      const cell = make("th", { scope: "col", class: column.type === "text" ? null : "number", "aria-sort": isSorted ? (this.sort.down ? "descending" : "ascending") : null, "data-name": column.name });
      const button = make("button", { type: "button", text: column.heading || column.name });
      button.addEventListener("click", () => this.sortBy(column));
        cell.append(button, make("span", { class: "print", "aria-hidden": "true", text: column.heading || column.name }));
      return cell;
    }

    sortBy(column) {
      const first = column.type !== "text";
      if (this.sort?.column !== column) this.sort = { column, down: first };
      else if (this.sort.down === first) this.sort = { column, down: !first };
      else this.sort = null;
      this.update(this.sort ? `sorted by ${column.heading}, ${this.sort.down ? "largest first" : "smallest first"}` : "in the report's order");
      this.element.tHead.querySelector(`[data-name="${column.name}"] button`).focus();
    }

    drawFoot() {
      const shown = this.shown;
      const labels = shown.findIndex((column) => column.type !== "text");
      const span = labels < 0 ? shown.length : labels;
      const line = (name, kind, cells) => {
        const row = make("tr", { class: kind });
        if (span) row.append(make("th", { scope: "row", colspan: span, text: name }));
        row.append(...shown.slice(span).map((column) => make("td", { class: "number", text: cells(column) })));
        return row;
      };
      const lines = [];
      if (shown.some((column) => column.type === "amount" && column.left)) {
        lines.push(line("rounding", "rounding", (column) => (column.type === "amount" && column.left ? this.money(column.left) : "")));
      }
      lines.push(line(this.isFiltered ? "total of the rows shown" : "total", "total", (column) => (column.type === "text" ? "" : column.totalText)));
      this.element.tFoot.replaceChildren(...lines);
    }

    drawRows() {
      const seen = Math.ceil(this.scroller.clientHeight / ROW_HEIGHT) || 20;
      let first = Math.max(0, Math.floor(this.scroller.scrollTop / ROW_HEIGHT) - SPARE_ROWS);
      first -= first % 2;
      let last = Math.min(this.rows.length, first + seen + 2 * SPARE_ROWS);
      if (isPrinting) { first = 0; last = Math.min(this.rows.length, MOST_PRINTED); }
      if (first === this.first && last === this.last) return;
      [this.first, this.last] = [first, last];
      const shown = this.shown;
      const space = (rows) => {
        const row = make("tr", { class: "space", "aria-hidden": "true" }, make("td", { colspan: shown.length || 1 }));
        row.firstChild.style.height = `${rows * ROW_HEIGHT}px`;
        return row;
      };
      const body = document.createDocumentFragment();
      if (first > 0) body.append(space(first));
      for (let at = first; at < last; at += 1) body.append(this.line(shown, this.rows[at], at));
      if (last < this.rows.length && !isPrinting) body.append(space(this.rows.length - last));
      this.element.tBodies[0].replaceChildren(body);
    }

    line(shown, row, at) {
      const line = make("tr", { "aria-rowindex": at + 2 });
      for (const column of shown) {
        const text = column.print(row);
        if (column.type !== "text") { line.append(make("td", { class: "number", text })); continue; }
        const cell = make("td");
        const note = column.notes?.[column.codes[row]];
        cell.append(text ? make("bdi", { text }) : make("em", { text: column.name === "corrections_of" || column.name === "unpriced" ? "" : "(empty)" }));
        if (note) cell.append(make("bdi", { class: "note", text: note }));
        if (text.length > 20 || note) cell.title = note ? `${text} · ${note}` : text;
        line.append(cell);
      }
      return line;
    }

    update(said = "") {
      this.arrange();
      this.scroller.scrollTop = 0;
      this.draw();
      const some = this.isFiltered ? `${whole(this.rows.length)} of ${whole(this.count)} rows` : `${whole(this.count)} rows`;
      const printed = this.rows.length > MOST_PRINTED ? `; a print has the first ${MOST_PRINTED}` : "";
      byId("status").textContent = `${some}${said ? `, ${said}` : ""}${printed}`;
      byId("clear").disabled = !this.isFiltered;
    }

    csv() {
      const shown = this.shown;
      const lines = [shown.map((column) => quoted(column.name)).join(",")];
      for (const row of this.rows) lines.push(shown.map((column) => column.csv(row)).join(","));
      return `\ufeff${lines.join("\n")}\n`;
    }
  }

  const initTools = (table) => {
    const search = byId("search");
    let waiting = 0;
    const apply = () => {
      table.terms = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      table.update();
    };
    search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(apply, table.count > 20000 ? 200 : 0); });
    const selects = [];
    for (const column of table.columns) {
      if (column.type !== "text" || column.texts.length < 2 || column.texts.length > MOST_PICKED) continue;
      const select = make("select", { "aria-label": `Only this ${column.heading || column.name}`, "data-name": column.name }, make("option", { value: "", text: `any ${column.heading || column.name}` }));
      const ranks = column.ranks();
      const order = column.texts.map((_, place) => place).sort((a, b) => ranks[a] - ranks[b]);
      for (const place of order) select.append(make("option", { value: place, text: (column.display[place] || "(empty)").slice(0, 60) }));
      select.addEventListener("change", () => {
        if (select.value === "") table.picks.delete(column);
        else table.picks.set(column, Number(select.value));
        table.update();
      });
      selects.push(select);
      byId("picks").append(select);
    }
    for (const column of table.columns) {
      const box = make("input", { type: "checkbox", "data-name": column.name });
      box.checked = column.shown;
      box.addEventListener("change", () => { column.shown = box.checked; table.draw(); });
      byId("columns").append(make("label", {}, box, ` ${column.heading || column.name}`));
    }
    const choices = byId("choices");
    choices.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { choices.open = false; choices.querySelector("summary").focus(); }
    });
    document.addEventListener("click", (event) => { if (!choices.contains(event.target)) choices.open = false; });
    byId("clear").addEventListener("click", () => {
      search.value = "";
      for (const select of selects) select.value = "";
      table.picks.clear();
      apply();
      search.focus();
    });
    byId("download").addEventListener("click", () => {
      const url = URL.createObjectURL(new Blob([table.csv()], { type: "text/csv;charset=utf-8" }));
      const link = make("a", { href: url, download: "usage.csv" });
      link.click();
      setTimeout(() => URL.revokeObjectURL(url), 10000);
    });
  };

  const initTable = async () => {
    if (!byId("rows")) return null;
    const table = new Table(await unpack());
    byId("fallback").hidden = true;
    byId("tools").hidden = false;
    table.scroller.hidden = false;
    initTools(table);
    table.update();
    table.scroller.addEventListener("scroll", () => table.drawRows(), { passive: true });
    new ResizeObserver(() => table.drawRows()).observe(table.scroller);
    return table;
  };

  const start = async () => {
    initScheme();
    initCharts();
    const table = await initTable();
    const print = (now) => {
      isPrinting = now;
      redraw();
      table?.drawRows();
    };
    addEventListener("beforeprint", () => print(true));
    addEventListener("afterprint", () => print(false));
    document.documentElement.dataset.ready = "true";
  };
  start();
})();
