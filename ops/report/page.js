// Draws the charts, and lets them be read week by week: by pointing, or with the arrow keys.
// Everything that comes from the archive is put in as text, never as markup.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { weeks, days } = data;
  const DAY = 86400e3;
  const LEAST = 4 * 7 * DAY; // of time that charts show, where there is so much
  const whole = [weeks[0].from, weeks[weeks.length - 1].to];
  const plots = [...document.querySelectorAll(".plot")];
  const years = [...document.querySelectorAll(".year svg")];
  const calendar = document.querySelector(".calendar");
  const views = new Map();
  let shown = whole;
  let week = null; // the index of the week that is pointed at
  let day = null; // the day that is, in milliseconds, where it is a day

  const number = (value) => value.toLocaleString("en-US");
  const size = (value) => {
    const [by, unit] = [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]].find(([by]) => value >= by) || [1, "bytes"];
    return `${(value / by).toLocaleString("en-US", { maximumFractionDigits: value / by < 100 && by > 1 ? 1 : 0 })} ${unit}`;
  };
  const money = (value) => `$${value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
  const date = (time, withWeekday) =>
    new Date(time).toLocaleDateString("en-GB", {
      timeZone: "UTC", day: "numeric", month: "long", year: "numeric", ...(withWeekday ? { weekday: "long" } : {}),
    });
  const known = (value, words) => (value === null ? "its manifest does not tell" : words(value));

  // What is said of a week, in each of the charts.
  const sentences = {
    records: (of) => `${number(of.records)} records in ${number(of.snapshots)} snapshots`,
    vehicles: (of) => known(of.vehicles, (value) => `${number(value)} vehicles`),
    sizes: (of) =>
      `${size(of.raw)} raw, ${size(of.size)} converted` + (of.size ? ` (${(of.raw / of.size).toFixed(1)} to 1)` : ""),
    costs: (of) =>
      `${money(of.rawCost)} a month raw, ${money(of.cost)} converted: ${money(of.rawCost - of.cost)} less`,
    fields: (of) => known(of.fields, (value) => `${number(value)} fields${of.changes ? `; ${of.changes}` : ""}`),
    speed: (of) => known(of.rate, (value) => `${size(value)}/s`),
    retries: (of) => known(of.retries, (value) => `${number(value)} requests tried again`),
  };
  const say = (name, of) =>
    `${of.name ? `${of.name}, from ${date(of.from)}` : `${date(of.from, true)}, ${of.week}`}: ` +
    (of.records === null ? of.state : sentences[name](of)) +
    (of.records !== null && of.state !== "written" ? ` (${of.state})` : "");
  const isDaily = (name) => data.daily.includes(name);
  const sayDay = (time, count) => {
    const share = count && data.aDay ? ` of ${number(data.aDay)}` : "";
    const words = count === null ? "no week file" : count ? `${number(count)}${share} snapshots` : "no snapshot at all";
    return `${date(time, true)}, ${weeks[weekAt(time)].name}: ${words}`;
  };

  const weekAt = (time) => {
    const at = Math.floor((time - weeks[0].from) / (7 * DAY));
    return Math.min(weeks.length - 1, Math.max(0, at));
  };
  const countOf = (time) => {
    for (const svg of years) {
      const of = data.years[svg.dataset.year];
      const at = Math.floor((time - of.monday) / DAY);
      if (at >= 0 && at < of.counts.length) return { svg, at, count: of.counts[at] };
    }
    return null;
  };

  // The day that is pointed at, or else the first one of the week, as a row.
  const dayShown = () => days[Math.floor(((day === null ? weeks[week].from : day) - whole[0]) / DAY)];

  // Show a week everywhere, and a day of it where it is one.
  function point(toWeek, toDay = null) {
    week = toWeek;
    day = toDay;
    const of = week === null ? null : weeks[week];
    for (const [plot, view] of views) {
      placeLine(plot, view);
      const name = plot.dataset.chart;
      const words = of ? say(name, isDaily(name) ? dayShown() : of) : "";
      plot.closest("figure").querySelector(".readout").textContent = words;
      plot.setAttribute("aria-valuenow", of ? week : weeks.length - 1);
      plot.setAttribute("aria-valuetext", words || "no week chosen; use the arrow keys");
    }
    if (!calendar) return;
    for (const svg of years) svg.querySelector(".mark").setAttribute("visibility", "hidden");
    const found = of && countOf(day === null ? of.from : day);
    let words = "";
    if (found) {
      const mark = found.svg.querySelector(".mark");
      const [column, row] = [Math.floor(found.at / 7), found.at % 7];
      mark.setAttribute("x", column - 0.06);
      mark.setAttribute("y", (day === null ? 0 : row) - 0.06);
      mark.setAttribute("height", day === null ? 7 : 1);
      mark.setAttribute("visibility", "visible");
      words = day === null ? say("records", of) : sayDay(day, found.count);
    }
    calendar.closest("section").querySelector(".readout").textContent = words;
    calendar.setAttribute("aria-valuenow", of ? week : weeks.length - 1);
    calendar.setAttribute("aria-valuetext", words || "no day chosen; use the arrow keys");
  }

  // The upright line at the week that is pointed at.
  function placeLine(plot, view) {
    const line = plot.querySelector(".line");
    const at = week === null ? NaN : isDaily(plot.dataset.chart) ? dayShown().middle : weeks[week].middle;
    line.hidden = !(at >= shown[0] && at <= shown[1]);
    if (!line.hidden) line.style.left = `${view.origin()[0] + view.scale("x")(at)}px`;
  }

  function show(from, to) {
    const middle = (from + to) / 2;
    if (to - from < LEAST) [from, to] = [middle - LEAST / 2, middle + LEAST / 2];
    shown = [Math.max(whole[0], from), Math.min(whole[1], to)];
    for (const [plot, view] of views)
      view.signal("start", shown[0]).signal("end", shown[1]).runAsync().then(() => placeLine(plot, view));
    for (const button of document.querySelectorAll(".period button"))
      button.setAttribute("aria-pressed", Number(button.dataset.from) === shown[0] && Number(button.dataset.to) === shown[1]);
  }

  function zoom(factor) {
    const middle = week === null ? (shown[0] + shown[1]) / 2 : weeks[week].middle;
    const half = ((shown[1] - shown[0]) / 2) * factor;
    show(middle - half, middle + half);
  }

  // Keys: weeks with left and right, a quarter with the page keys, days with up and down.
  function onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const now = week === null ? weekAt(shown[1] - DAY) : week;
    const step = { ArrowRight: 1, ArrowLeft: -1, PageUp: 13, PageDown: -13 }[event.key];
    const inDays = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const chart = event.currentTarget.dataset.chart;
    const isCalendar = event.currentTarget === calendar || isDaily(chart);
    const to = (at) => Math.min(weeks.length - 1, Math.max(0, at));
    if (isCalendar && (step || inDays)) {
      const [across, down] = isDaily(chart) ? [DAY, -DAY] : [7 * DAY, DAY];
      const from = day === null ? weeks[now].from : day + (step || 0) * across + (inDays || 0) * down;
      const time = Math.min(whole[1] - DAY, Math.max(whole[0], from));
      point(weekAt(time), time);
    } else if (step || inDays) point(week === null ? now : to(now + (step || -inDays)));
    else if (event.key === "Home") point(0, isCalendar ? whole[0] : null);
    else if (event.key === "End") point(weeks.length - 1, isCalendar ? whole[1] - DAY : null);
    else if (event.key === "+" || event.key === "=") zoom(0.5);
    else if (event.key === "-") zoom(2);
    else if (event.key === "0") show(...whole);
    else if (event.key === "Escape") point(null);
    else return;
    event.preventDefault();
    follow();
  }

  // Keep the week that is pointed at in sight.
  function follow() {
    if (week === null) return;
    const { from, to } = weeks[week];
    const width = shown[1] - shown[0];
    if (from < shown[0]) show(from, from + width);
    else if (to > shown[1]) show(to - width, to);
  }

  // Pointing at a chart, and dragging across it to look closer.
  function watch(plot, view) {
    const brush = plot.querySelector(".brush");
    let pressedAt = null;
    const left = () => plot.querySelector("svg").getBoundingClientRect().left + view.origin()[0];
    const timeAt = (event) => {
      const time = view.scale("x").invert(event.clientX - left());
      return Math.min(shown[1] - 1, Math.max(shown[0], Number(time)));
    };
    const pointAt = (time) => {
      const at = isDaily(plot.dataset.chart) ? time - ((time - whole[0]) % DAY) : null;
      point(weekAt(time), at);
    };
    plot.addEventListener("pointermove", (event) => {
      pointAt(timeAt(event));
      if (pressedAt === null) return;
      const [a, b] = [pressedAt, event.clientX].sort((one, other) => one - other);
      brush.style.left = `${a - plot.getBoundingClientRect().left}px`;
      brush.style.width = `${b - a}px`;
    });
    plot.addEventListener("pointerdown", (event) => {
      pointAt(timeAt(event));
      if (event.pointerType !== "mouse" || event.button) return;
      pressedAt = event.clientX;
      plot.setPointerCapture(event.pointerId);
    });
    const release = (event) => {
      if (pressedAt !== null && Math.abs(event.clientX - pressedAt) > 6 && event.type === "pointerup") {
        const times = [timeAt({ clientX: pressedAt }), timeAt(event)].sort((one, other) => one - other);
        show(...times);
      }
      pressedAt = null;
      brush.style.width = "0";
    };
    plot.addEventListener("pointerup", release);
    plot.addEventListener("pointercancel", release);
    plot.addEventListener("dblclick", () => show(...whole));
    plot.addEventListener("pointerleave", () => document.activeElement === plot || point(null));
  }

  function watchYear(svg) {
    const of = data.years[svg.dataset.year];
    const onPointer = (event) => {
      const box = svg.getBoundingClientRect();
      const column = Math.floor(((event.clientX - box.left) / box.width) * (of.counts.length / 7));
      const row = Math.floor(((event.clientY - box.top) / box.height) * 7);
      const time = of.monday + (column * 7 + row) * DAY;
      if (column >= 0 && row >= 0 && row < 7 && time >= whole[0] && time < whole[1]) point(weekAt(time), time);
    };
    svg.addEventListener("pointermove", onPointer);
    svg.addEventListener("pointerdown", onPointer);
    svg.addEventListener("pointerleave", () => document.activeElement === calendar || point(null));
  }

  async function draw(plot) {
    const spec = data.charts[plot.dataset.chart];
    const name = plot.dataset.chart;
    spec.data = { values: name === "fields" ? data.spans : isDaily(name) ? days : weeks };
    for (const param of spec.params) if (param.name === "start" || param.name === "end") param.value = whole[param.name === "start" ? 0 : 1];
    const options = { mode: "vega-lite", renderer: "svg", actions: false, tooltip: false, ast: true, defaultStyle: false };
    const { view } = await vegaEmbed(plot.querySelector(".drawing"), spec, options);
    views.set(plot, view);
    view.addSignalListener("width", () => placeLine(plot, view));
    watch(plot, view);
  }

  // Say so where a table is broader than the screen.
  function watchTable(box) {
    const sign = document.createElement("p");
    sign.className = "sideways";
    sign.textContent = "More columns: scroll sideways →";
    sign.hidden = true;
    box.after(sign);
    new ResizeObserver(() => (sign.hidden = box.scrollWidth <= box.clientWidth)).observe(box);
  }

  async function begin() {
    document.querySelectorAll(".scroll").forEach(watchTable);
    await Promise.all(plots.map(draw));
    years.forEach(watchYear);
    for (const slider of calendar ? [calendar, ...plots] : plots) {
      slider.setAttribute("aria-valuemin", 0);
      slider.setAttribute("aria-valuemax", weeks.length - 1);
      slider.addEventListener("keydown", onKey);
    }
    const period = document.querySelector(".period");
    period.hidden = whole[1] - whole[0] <= LEAST; // there is nothing to look closer at
    period.addEventListener("click", ({ target }) => target.dataset.from && show(Number(target.dataset.from), Number(target.dataset.to)));
    show(...whole);
    point(null);
    document.documentElement.dataset.ready = "yes";
  }
  begin();
})();
