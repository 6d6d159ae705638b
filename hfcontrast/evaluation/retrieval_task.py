"""Retrieval as an evaluator: the captions of the test images by the images, and the images by their captions."""

from typing import Annotated

from pydantic import Field

from .protocol import CAPTIONS, TEXT_TOWER, Evaluator, Figure, Scores, Settings

KS = (1, 5, 10)
_TITLES = {"image_to_text": "image→text", "text_to_image": "text→image"}


class RetrievalSettings(Settings):
    """Settings of retrieval."""

    text_batch_size: Annotated[int, Field(ge=1)] = Field(256, description="Texts encoded at once.")


def _figures() -> tuple[Figure, ...]:
    found = []
    for direction, title in _TITLES.items():
        for k in KS:
            shown = frozenset({"card", "compare"} if k == 1 else {"card"})
            name = f"{direction}_r{k}"
            headline = name == "image_to_text_r1"
            found.append(Figure(name, f"{title} R@{k}", headline=headline, key=name, shown_in=shown, metric="recall"))
        name = f"{direction}_median_rank"
        found.append(
            Figure(name, f"{title} median rank", "number", False, key=name, shown_in=frozenset(), low=1.0, digits=1)
        )
    return tuple(found)


class RetrievalEvaluator(Evaluator):
    """Recall at 1, 5 and 10 and the median rank between images and their captions, for models with a text tower.

    Recall at as many as there are candidates, which is always 100 %, is left out.
    """

    name = "retrieval"
    needs = frozenset({CAPTIONS, TEXT_TOWER})
    settings_class = RetrievalSettings
    figures = _figures()
    in_runs = True
    order = 50
    task_type = "image-text-retrieval"
    task_name = "retrieval"

    def evaluate(self, encoder, rows, settings):
        from .retrieval import Retrieval

        retrieval = Retrieval(rows.captioned(), rows.tokenizer, KS, settings.text_batch_size)
        figures = retrieval(encoder)
        galleries = {"image_to_text": retrieval.counts["texts"], "text_to_image": retrieval.counts["images"]}
        trivial = {f"{name}_r{k}" for name, size in galleries.items() for k in KS[1:] if k >= size}
        found = {name: value for name, value in figures.items() if name not in trivial}
        everything = getattr(rows.test_rows, "num_rows", None)
        return Scores(found, counts=retrieval.counts | ({"of_images": everything} if everything is not None else {}))

    def explain(self, settings, names):
        return "R@k: the share of images with one of their captions, and of captions with their image, among the k most similar."

    def conditions(self, settings):
        return True if settings == RetrievalSettings() else super().conditions(settings)

    def reported_settings(self, settings):
        return {}
