// Draws each figure of the page once it comes near the screen. Pages that follow the reader's light or dark
// preference say so with <html data-scheme="auto">; figures then take the page's colours and change with it.
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const follows = document.documentElement.dataset.scheme === "auto";
  const clear = "rgba(0, 0, 0, 0)";

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function themed(layout) {
    if (!follows) return layout;
    const template = structuredClone(layout.template || {});
    const base = { ...template.layout, paper_bgcolor: clear, modebar: { bgcolor: clear } };
    if (dark.matches) {
      const text = colour("--text"), line = colour("--line");
      const axis = { gridcolor: line, linecolor: line, zerolinecolor: line };
      const button = { bgcolor: "#dfe5ee", font: { color: "#1d2126" } };  // plotly fixes the pressed one's pale blue
      Object.assign(base, {
        plot_bgcolor: clear,
        font: { ...base.font, color: text },
        xaxis: { ...base.xaxis, ...axis },
        yaxis: { ...base.yaxis, ...axis },
        updatemenudefaults: { ...base.updatemenudefaults, ...button },
      });
    }
    return { ...layout, template: { ...template, layout: base } };
  }

  function draw(holder) {
    const figure = JSON.parse(holder.querySelector("script").textContent);
    const config = { responsive: true, displaylogo: false, showSendToCloud: false };
    const layout = themed(figure.layout || {});
    Plotly.newPlot(holder.querySelector(".plot"), { data: figure.data, layout, frames: figure.frames, config });
    holder.dataset.drawn = "yes";
  }

  const holders = [...document.querySelectorAll(".figure")];
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      near.unobserve(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "800px" });
  holders.forEach((holder) => near.observe(holder));

  const drawAll = (wanted) => holders.filter(wanted).forEach(draw);
  window.addEventListener("beforeprint", () => drawAll((holder) => !holder.dataset.drawn));
  if (follows) dark.addEventListener("change", () => drawAll((holder) => holder.dataset.drawn));
})();
