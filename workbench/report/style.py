"""How a report's page looks: light and dark as the reader's system is, narrow screens, paper."""

from __future__ import annotations

from workbench.plots.palette import DARK, LIGHT, variables

STYLE = f"""
:root {{ color-scheme: light dark; {variables(LIGHT)} --wb-soft: #f5f5f5; --wb-accent: #0b63b0; --wb-warn: #9a4d00; }}
@media (prefers-color-scheme: dark) {{
  :root {{ {variables(DARK)} --wb-soft: #1d1d1d; --wb-accent: #7cb8f0; --wb-warn: #f0b45a; }}
}}
* {{ box-sizing: border-box; }}
body {{
  margin: 0 auto; max-width: 1080px; padding: 24px 24px 64px; color: var(--wb-text); background: var(--wb-paper);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere;
}}
h1 {{ font-size: 26px; line-height: 1.25; margin: 8px 0; }}
h2 {{ font-size: 20px; margin: 40px 0 8px; padding-top: 8px; border-top: 1px solid var(--wb-grid); }}
h3 {{ font-size: 16px; margin: 24px 0 6px; }}
p, ul, dl {{ margin: 6px 0; }}
ul {{ padding-left: 20px; }}
a {{ color: var(--wb-accent); }}
.quiet {{ color: var(--wb-quiet); font-size: 13px; }}
.verdict {{ font-size: 17px; border-left: 4px solid var(--wb-accent); padding: 4px 0 4px 14px; margin: 10px 0; }}
.warn {{ border-left: 4px solid var(--wb-warn); padding: 2px 0 2px 14px; list-style: none; margin-left: 0; }}
nav ol {{ columns: 3 200px; padding-left: 22px; margin: 4px 0; }}
.wide {{ overflow-x: auto; margin: 8px 0; }}
table {{ border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }}
caption {{ text-align: left; color: var(--wb-quiet); padding-bottom: 4px; }}
th, td {{ text-align: left; vertical-align: top; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--wb-grid);
  overflow-wrap: normal; min-width: 3em; max-width: 30em; }}
th {{ color: var(--wb-quiet); font-weight: 400; }}
td {{ white-space: nowrap; }}
td.l {{ white-space: normal; min-width: 14em; }}
.n {{ text-align: right; }}
dl {{ display: grid; grid-template-columns: fit-content(36%) minmax(0, 1fr); gap: 3px 18px; }}
dt {{ color: var(--wb-quiet); min-width: 90px; }}
dd {{ margin: 0; }}
code, pre {{ font-family: ui-monospace, monospace; font-size: 13px; }}
pre {{ background: var(--wb-soft); border-radius: 4px; padding: 10px 12px; margin: 4px 0 10px; white-space: pre-wrap; }}
figure {{ margin: 18px 0; }}
figure svg {{ display: block; }}
summary {{ cursor: pointer; color: var(--wb-quiet); font-size: 13px; }}
iframe {{ width: 100%; height: 640px; border: 1px solid var(--wb-grid); border-radius: 4px; }}
.paper {{ display: none; }}
@media (max-width: 700px) {{
  body {{ padding: 12px 12px 40px; font-size: 14px; }}
  dl {{ grid-template-columns: minmax(0, 1fr); gap: 0; }}
  dd {{ margin-bottom: 6px; }}
  iframe {{ height: 760px; }}
}}
@media print {{
  :root {{ {variables(LIGHT)} --wb-soft: #f5f5f5; --wb-accent: #0b63b0; --wb-warn: #9a4d00; }}
  body {{ max-width: none; padding: 0; font-size: 11pt; }}
  iframe, nav, summary {{ display: none; }}
  .paper {{ display: block; }}
  h2, h3 {{ break-after: avoid; }}
  figure, tr, pre {{ break-inside: avoid; }}
  .wide {{ overflow: visible; }}
  th, td {{ padding-right: 8px; font-size: 9pt; white-space: normal; overflow-wrap: anywhere; }}
}}
"""
