"""The style of the page: one palette for light and one for dark, from a phone to a wide screen."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fcfbf8; --card: #f4f2ec; --ink: #20242a; --soft: #5c636d; --line: #dfdcd3;
  --verified: #2a78b5; --unknown: #b8bcc4; --falsified: #e09a17; --solid: #3d4d63;
  --faint: #b9c2ce; --track: #ebe8e0; --on-edge: #fcfbf8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #16191d; --card: #1f2329; --ink: #e7e5df; --soft: #a2a9b3; --line: #343a42;
    --verified: #4d9fd9; --unknown: #5d646e; --falsified: #eab04b; --solid: #b4c3d6;
    --faint: #6d7a8a; --track: #262b32; --on-edge: #16191d;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 46rem; margin: 0 auto; padding: 3rem 1.25rem 4rem; overflow-wrap: anywhere; }
h1, h2 { font-family: Charter, "Bitstream Charter", "Sitka Text", Cambria, Georgia, serif;
  font-weight: 600; text-wrap: balance; }
h1 { font-size: clamp(1.35rem, 1rem + 2vw, 1.9rem); line-height: 1.35; margin: .4rem 0 1.6rem; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 3.2rem 0 .5rem; }
p { margin: .5rem 0 1rem; max-width: 40rem; }
.kicker { color: var(--soft); font-size: .9rem; margin: 0; }
.soft, figcaption, .axis { color: var(--soft); font-size: .92rem; }
data { font-variant-numeric: tabular-nums; white-space: nowrap; }
.share { display: flex; height: .9rem; border-radius: .25rem; overflow: hidden; gap: 2px; }
.share .verified { background: var(--verified); }
.share .unknown { background: var(--unknown); }
.share .falsified { background: var(--falsified); }
.counts { display: flex; flex-wrap: wrap; gap: .3rem 2rem; list-style: none; padding: 0;
  margin: .8rem 0 0; }
.counts li { display: flex; align-items: baseline; gap: .45rem; }
.counts b { font-weight: 600; }
.key { display: inline-block; width: .7rem; height: .7rem; border-radius: .15rem; flex: none; }
.key.verified { background: var(--verified); }
.key.unknown { background: var(--unknown); }
.key.falsified { background: var(--falsified); }
figure { margin: 1.2rem 0; }
.plot { position: relative; margin: .5rem .6rem 0 3rem; height: clamp(13rem, 40vw, 19rem);
  padding-bottom: 1.6rem; }
.plot svg { display: block; width: 100%; height: 100%; }
.plot polygon.verified { fill: var(--verified); }
.plot polygon.unknown { fill: var(--unknown); }
.plot polygon.falsified { fill: var(--falsified); }
.plot polyline, .plot line { fill: none; vector-effect: non-scaling-stroke; }
.edge { stroke: var(--on-edge); stroke-width: 1.5; }
.grid { stroke: var(--on-edge); stroke-width: 1; opacity: .25; }
.mark { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 4 4; }
.ticks { position: absolute; inset: 0 100% 1.6rem auto; }
.ticks span { position: absolute; right: .5rem; transform: translateY(-50%); color: var(--soft);
  font-size: .8rem; white-space: nowrap; }
.radii { position: absolute; inset: auto 0 0 0; height: 1.4rem; }
.radii span { position: absolute; transform: translateX(-50%); color: var(--soft);
  font-size: .8rem; white-space: nowrap; }
.radii .here { color: var(--ink); font-weight: 600; }
.axis { text-align: center; margin: .1rem auto 0; }
.bars { list-style: none; padding: 0; margin: 1.2rem 0; display: grid; gap: .45rem .9rem;
  grid-template-columns: fit-content(14rem) 1fr auto; }
.bars li { display: grid; grid-column: 1 / -1; grid-template-columns: subgrid;
  align-items: center; }
.what { line-height: 1.3; }
.track { position: relative; height: .8rem; background: var(--track); border-radius: .2rem;
  overflow: hidden; }
.track span { position: absolute; inset: 0 auto 0 0; border-radius: .2rem; }
.track .faint { background: var(--faint); }
.track .solid { background: var(--solid); }
.bars .value { color: var(--soft); font-size: .92rem; text-align: right; }
.scroll { overflow-x: auto; margin: 1rem 0; overflow-wrap: normal; }
.scroll:focus-visible { outline: 2px solid var(--verified); }
table { border-collapse: collapse; font-size: .92rem; width: 100%; }
th, td { padding: .45rem .9rem .45rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
thead th { color: var(--soft); font-weight: 500; vertical-align: bottom; }
td.n, th.n { text-align: right; }
td.n:last-child, th.n:last-child { padding-right: 0; }
tbody tr:last-child > * { border-bottom: 0; }
tbody th { white-space: nowrap; }
.change { display: block; }
.option { white-space: nowrap; }
#settings td { overflow-wrap: anywhere; }
details { margin: 1rem 0; }
summary { cursor: pointer; color: var(--soft); font-size: .92rem; }
.notes { background: var(--card); border-radius: .5rem; padding: .9rem 1.2rem; margin: 1rem 0;
  list-style-position: outside; }
.notes li { margin: .35rem 0 .35rem 1rem; }
footer { margin-top: 4rem; padding-top: 1rem; border-top: 1px solid var(--line);
  color: var(--soft); font-size: .88rem; }
@media (max-width: 34rem) {
  main { padding-top: 1.8rem; }
  .bars { grid-template-columns: 1fr auto; gap: .9rem .8rem; }
  .bars li { row-gap: .15rem; }
  .bars .track { grid-row: 2; grid-column: 1 / -1; }
  .radii .minor { display: none; }
  th, td { padding-right: .45rem; font-size: .84rem; }
  tbody th { white-space: normal; }
  .cards thead { display: none; }
  .cards tr { display: block; padding: .7rem 0; border-bottom: 1px solid var(--line); }
  .cards th, .cards td { display: flex; gap: .8rem; padding: .1rem 0; border: 0; }
  .cards td::before { content: attr(data-title); flex: 0 0 7.5rem; color: var(--soft); }
}
@media print { details > * { display: block; } .scroll { overflow: visible; } }
"""
