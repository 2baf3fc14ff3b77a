"""The documentation site builds without a warning, and none of its links is broken."""
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

ROOT = Path(__file__).resolve().parent.parent


def test_the_site_builds_and_its_links_hold(tmp_path):
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", site]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30                                # a page per notebook and a page per module
    broken = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        # code is no page: as it is shown, and as the copy button holds it
        text = re.sub(r'<(script|style|pre|code)\b.*?</\1>|<div[^>]*class="clipboard-copy-txt".*?</div>', "", text, flags=re.S)
        for link in re.findall(r'(?:href|src)="([^"]+)"', text):
            parts = urlparse(link)
            if parts.scheme or parts.netloc or not parts.path or page.name == "404.html": continue
            target = (page.parent / unquote(parts.path)).resolve()
            if target.is_dir(): target /= "index.html"
            if not target.exists(): broken.append(f"{page.relative_to(site)}: {link}")
    assert not broken, broken[:10]
