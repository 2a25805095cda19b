"""An executed notebook as a page that code hosts render: Markdown, and its pictures beside it.

    python -m deimos.report.notebook_page notebooks/executed/reference/*.ipynb

Such hosts show an .ipynb slowly, or not at all, and its pictures would be text in git.
"""

import base64
import re
import sys
from io import BytesIO
from pathlib import Path

from deimos.extras import extra
from deimos.tasks.files import ROOT

with extra("reproduce"):
    import nbformat
    from PIL import Image

PAGES = ROOT / "docs" / "executed"
LEFT_OUT = "*Left out here: this page shows the runs that the repository keeps.*"
COLOURS_KEPT = 128  # of a picture: lines, bands and letters need no more


def write_notebook_page(executed: Path, folder: Path = PAGES) -> Path:
    """Write NAME.md and NAME-1.png, … into `folder`; older pictures of the notebook are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{executed.stem}-*.png"):
        old.unlink()
    parts, pictures = [], 0
    for cell in nbformat.read(executed, as_version=4).cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source.rstrip()}\n```")
        if cell.execution_count is None:
            parts.append(LEFT_OUT)
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                pictures += 1
                picture = folder / f"{executed.stem}-{pictures}.png"
                picture.write_bytes(_small(base64.b64decode(data["image/png"])))
                parts.append(f"![{executed.stem}, picture {pictures}]({picture.name})")
            elif "text/html" in data:
                parts.append(_bare(data["text/html"]))
            elif output.get("name") == "stdout" or "text/plain" in data:
                text = output.get("text") or data["text/plain"]
                parts.append(f"```text\n{text.rstrip()}\n```")
    page = folder / f"{executed.stem}.md"
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return page


def _small(png: bytes) -> bytes:
    """The picture with fewer colours, which takes a third of the bytes."""
    content = BytesIO()
    image = Image.open(BytesIO(png)).convert("RGB").quantize(COLOURS_KEPT, dither=Image.Dither.NONE)
    image.save(content, "PNG", optimize=True)
    return content.getvalue()


def _bare(html: str) -> str:
    """A table without what hosts forbid, on lines that Markdown takes for one block."""
    html = re.sub(r"<style.*?</style>", "", html, flags=re.DOTALL)
    html = re.sub(r"<(/?)div[^>]*>", "", html)
    html = re.sub(r' (?:id|class|style|border|halign|valign)="[^"]*"', "", html)
    html = re.sub(r"(<\w+) +>", r"\1>", html)
    return re.sub(r"\s*\n\s*", "\n", html).strip()


if __name__ == "__main__":
    for given in sys.argv[1:]:
        write_notebook_page(Path(given))
