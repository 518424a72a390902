"""`make screenshots`: pictures of the page for the docs, of a made-up month with the demo's prices."""

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from local.demo import EXAMPLE_PRICES, SUBJECTS
from meter.ledger.rows import SumRow
from meter.usage import TokenUsage
from meter.wiring.books import read_price_book
from tests.support.browser import REPOSITORY, running_browser
from tests.support.pages import page_of
from tests.support.reports import query, row

IMAGES = REPOSITORY / "docs" / "images"
MOST_BYTES = 250_000
_DEPLOYMENTS = {
    "gpt-4o": "gpt-4o-2024-11-20",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "text-embedding-3-small": "text-embedding-3-small",
}
_APPS = {
    **dict.fromkeys(SUBJECTS[:2], "portal"),
    SUBJECTS[2]: "batch",
    "carol@contoso.example": "portal",
    "support-assistant": "bot",
    "invoice-reader": "batch",
}


def usage() -> Iterator[SumRow]:
    """Three weeks and two days: weekends are quiet, batches are not."""
    for day in range(1, 24):
        is_weekend = day % 7 in {0, 1}
        for place, (subject, app) in enumerate(_APPS.items()):
            for kind, (deployment, model) in enumerate(_DEPLOYMENTS.items()):
                scale = 900 if app == "batch" else 150 if is_weekend else 1_200
                prompt = scale * (200 + (day * 37 + place * 91 + kind * 53) % 400) // (kind + 1)
                completion = 0 if kind == 2 else prompt // (6 + place)
                tokens = TokenUsage(
                    prompt_tokens=prompt,
                    completion_tokens=completion,
                    total_tokens=prompt + completion,
                    cached_tokens=0 if kind == 2 else prompt // (3 + place % 3),
                )
                yield row(
                    f"2026-11-{day:02}",
                    subject,
                    calls=scale // 10 + place,
                    usage=tokens,
                    estimated_calls=int(day == 9 and place == 1),
                    model=model,
                    deployment=deployment,
                    backend=("swedencentral", "westeurope")[(day + place) % 2],
                    client_app=app,
                )


def main() -> None:
    """Take the pictures."""
    IMAGES.mkdir(exist_ok=True)
    prices = read_price_book([EXAMPLE_PRICES], None)
    wanted = query("month", groups="subject,deployment,model,tier")
    text, _ = asyncio.run(page_of(usage(), wanted, prices=prices, budget=Decimal(250_000)))
    with TemporaryDirectory() as folder, running_browser() as browser:
        path = Path(folder) / "report.html"
        path.write_text(text, encoding="utf-8")
        for name, width, height, dark in (
            ("light", 1280, 900, False),
            ("dark", 1280, 900, True),
            ("phone", 380, 820, False),
        ):
            with browser.page(width=width, height=height, dark=dark) as page:
                page.open(path)
                picture = page.picture(whole=False)
            assert len(picture) < MOST_BYTES, f"{name}: {len(picture)} bytes"
            (IMAGES / f"report-{name}.png").write_bytes(picture)


if __name__ == "__main__":
    main()
