/** Beyond the style of all reports. Every colour of text has a contrast of at least 4.5 to what is behind it, of lines 3. */
export const runStyle = `
:root { --good: light-dark(#1a7332, #57d977); --warn: light-dark(#96600a, #f2c14e); --bad: light-dark(#b3261e, #ff8a80);
--series1: light-dark(#b4480f, #ff9d5c); --series2: light-dark(#1d4ed8, #8ab4ff); --series3: light-dark(#1a7332, #57d977);
--series4: light-dark(#7c3aed, #c4a1ff); --series5: light-dark(#b0156a, #ff8fc4); --series6: light-dark(#00707a, #4ddbe0); }
* { box-sizing: border-box; }
html { scroll-padding-top: 4.5rem; }
body { max-width: 84rem; margin: 0 auto; padding: 0 1.25rem 4rem; overflow-wrap: break-word; font-variant-numeric: tabular-nums; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 1.25rem; margin: 2.6rem 0 .8rem; }
h3 { font-size: 1rem; margin: 0; } p { margin: .4rem 0; } a { color: var(--accent2); }
.small { font-size: .85rem; color: var(--muted); font-weight: normal; }
.hidden { position: absolute; width: 1px; height: 1px; margin: 0; overflow: hidden; clip-path: inset(50%); }
.skip { position: absolute; left: .5rem; top: -5rem; z-index: 3; padding: .5rem 1rem; background: var(--card); border: 1px solid var(--line); }
.skip:focus { top: .5rem; }
:focus-visible { outline: 3px solid var(--accent2); outline-offset: 2px; border-radius: 3px; }
header { display: flex; flex-wrap: wrap; gap: .6rem 1rem; align-items: center; padding: 1.6rem 0 .6rem; } header h1 { flex: 1 1 14rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; list-style: none; margin: .6rem 0 0; padding: 0; }
nav a { display: inline-block; padding: .3rem 0; }
button { font: inherit; font-size: .9rem; color: var(--ink); background: var(--card); border: 1px solid var(--muted); border-radius: 6px; padding: .3rem .75rem; min-height: 2rem; cursor: pointer; }
button:hover:not(:disabled) { border-color: var(--ink); } button:disabled { color: var(--muted); border-color: var(--line); cursor: default; }
.toggle[aria-pressed="true"] { border-color: var(--ink); box-shadow: inset 0 0 0 1px var(--ink); }
#theme::before { content: ""; display: inline-block; width: .8em; height: .8em; margin-right: .5em; border-radius: 50%; border: 2px solid; background: linear-gradient(90deg, currentColor 50%, transparent 50%); vertical-align: -.08em; }
.badge { display: inline-block; padding: .05rem .55rem; border-radius: 1rem; border: 1px solid; font-size: .85rem; font-weight: 600; white-space: nowrap; }
.good { color: var(--good); } .wait { color: var(--warn); } .bad { color: var(--bad); }
.detail { padding: .6rem .9rem; border-left: 4px solid; background: var(--card); overflow-wrap: anywhere; }
.progress { height: .5rem; max-width: 36rem; margin: .6rem 0 .2rem; border-radius: 1rem; background: var(--line); overflow: hidden; }
.progress span { display: block; height: 100%; background: var(--accent); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .75rem; margin: 1rem 0; }
.tiles > div, .chart, .figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .8rem 1rem; }
.tiles dt { color: var(--muted); font-size: .9rem; } .tiles dd { margin: 0; } .tiles dt + dd { font-size: 1.4rem; font-weight: 600; line-height: 1.3; }
#controls { position: sticky; top: 0; z-index: 2; display: flex; flex-wrap: wrap; gap: .5rem 1.2rem; padding: .6rem 0; margin: 1.6rem 0 0; background: var(--paper); border-bottom: 1px solid var(--line); }
#controls[hidden], .signs[hidden] { display: none; } .control { display: flex; flex-wrap: wrap; gap: .35rem; align-items: center; }
.signs { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: .6rem 0 0; padding: 0; list-style: none; } .signs li { display: flex; align-items: center; gap: .4rem; }
.signs svg { width: 14px; height: 14px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 25rem), 1fr)); gap: 1rem; }
.chart { min-width: 0; } .chart .plot { margin: .5rem 0; min-height: 230px; touch-action: pan-y; } .chart figcaption { margin-top: .4rem; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem; } .legend button, .legend .alone { display: inline-flex; align-items: center; gap: .35rem; padding: .1rem .55rem; max-width: 100%; overflow-wrap: anywhere; text-align: left; }
.legend .alone { padding: .1rem 0; } .legend button.toggle { border-color: var(--muted); box-shadow: none; } .legend button[aria-pressed="false"] { color: var(--muted); text-decoration: line-through; } .legend output { font-weight: 600; min-width: 3.2em; white-space: nowrap; }
.key { flex: none; display: inline-block; width: 1.1rem; margin-right: .3rem; border-top: 3px solid var(--key); vertical-align: .25em; } .key.dashed { border-top-style: dashed; }
[aria-pressed="false"] .key { opacity: .35; }
details { margin: .5rem 0; } summary { cursor: pointer; padding: .25rem 0; }
.wide { overflow-x: auto; max-width: 100%; } .chart .wide, #events .wide { max-height: 20rem; overflow-y: auto; } #events .wide { max-height: 30rem; } table { font-size: .9rem; } th, td { padding: .3rem .8rem; vertical-align: top; }
thead th { white-space: nowrap; color: var(--muted); font-weight: 600; } td { font-variant-numeric: tabular-nums; } td.text { text-align: left; overflow-wrap: anywhere; min-width: 6rem; } tbody th { font-weight: normal; } td.message { min-width: 16rem; } th.text { text-align: left; }
.differs th, .differs strong { color: var(--accent); } .what { white-space: nowrap; } .warning .what { color: var(--warn); } .spike .what, .bad-image .what { color: var(--bad); } .resumed .what { color: var(--accent2); } .checkpoint .what { color: var(--good); }
.files { columns: 26rem; font-size: .9rem; padding-left: 1.2rem; } .files li { overflow-wrap: anywhere; }
.figure { margin: 1rem 0; overflow-x: auto; } .figure > figcaption { margin: .2rem 0 .7rem; max-width: 60rem; } .figure img, .figure svg { max-width: 100%; height: auto; }
@media (max-width: 40rem) { body { padding: 0 .8rem 3rem; } #controls { position: static; } .tiles { grid-template-columns: repeat(2, 1fr); } .chart, .tiles > div { padding: .7rem .75rem; } th, td { padding: .3rem .5rem; }
tr.event { display: grid; grid-template-columns: 5rem 4rem 1fr; border-bottom: 1px solid var(--line); } tr.event > * { border: 0; } td.message { grid-column: 1 / -1; } }
@media (prefers-reduced-motion: no-preference) { html { scroll-behavior: smooth; } .progress span { transition: width .5s; } }
@media print { .wide { max-height: none !important; } #controls, .skip, nav, button:not(.legend button), .live { display: none !important; } body { max-width: none; } .chart, .figure, .tiles > div { break-inside: avoid; } .charts { grid-template-columns: 1fr 1fr; } h2 { break-after: avoid; } }
`;
