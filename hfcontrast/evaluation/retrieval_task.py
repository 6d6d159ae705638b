"""Retrieval as an evaluator: the captions of the test images by the images, and the images by their captions."""

from typing import Annotated

from pydantic import Field

from .protocol import CAPTIONS, TEXT_TOWER, Evaluator, Figure, Scores, Settings

KS = (1, 5, 10)
_TITLES = {"image_to_text": "image→text", "text_to_image": "text→image"}
_GALLERIES = {"": "", "_unique_texts": ", unique texts"}  # ends of names and of titles


class RetrievalSettings(Settings):
    """Settings of retrieval."""

    text_batch_size: Annotated[int, Field(ge=1)] = Field(256, description="Texts encoded at once.")


def _figures() -> tuple[Figure, ...]:
    found = []
    for gallery, of_which in _GALLERIES.items():
        for direction, title in _TITLES.items():
            for k in KS:
                shown = frozenset({"card", "compare"} if k == 1 else {"card"})
                name = f"{direction}_r{k}{gallery}"
                headline = name == "image_to_text_r1"
                title_of_k = f"{title} R@{k}{of_which}"
                found.append(Figure(name, title_of_k, headline=headline, key=name, shown_in=shown, metric="recall"))
            name = f"{direction}_median_rank{gallery}"
            median = f"{title} median rank{of_which}"
            found.append(Figure(name, median, "number", False, key=name, shown_in=frozenset(), low=1.0, digits=1))
    return tuple(found)


class RetrievalEvaluator(Evaluator):
    """Recall at 1, 5 and 10 and the median rank between images and their captions, for models with a text tower.

    Figures that any encoder has are left out: recall at as many as there are candidates, or where all of these are right, is always 100 %.
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
        from .recall import UNIQUE
        from .retrieval import Retrieval

        retrieval = Retrieval(rows.captioned(), rows.tokenizer, KS, settings.text_batch_size)
        figures = retrieval(encoder)
        trivial = {name for name, one in retrieval.chance.items() if one.says_nothing}
        trivial |= {
            name.replace("_r1", "_median_rank") for name in trivial if name.removesuffix(UNIQUE).endswith("_r1")
        }
        found = {name: value for name, value in figures.items() if name not in trivial}
        everything = getattr(rows.test_rows, "num_rows", None)
        counts = retrieval.counts | ({"of_images": everything} if everything is not None else {})
        if without := retrieval.uncaptioned:  # an image without a caption is a candidate, but no query
            own = {"images": counts["images"] - without, "of_images": counts.get("of_images", counts["images"])}
            own["uncaptioned_images"] = without
            counts |= {name: own for name in found if name.startswith("image_to_text")}
        return Scores(found, counts=counts, chance=retrieval.chance)

    def explain(self, settings, names):
        text = "R@k: the share of images with one of their captions, and of captions with their image, among the k most similar."
        if any(name.endswith("_unique_texts") for name in names):
            text += " Some captions repeat: of equal ones, each counts as the first with the same probability; among unique texts they are one, which belongs to all its images."
        return text

    def conditions(self, settings):
        ties = {"ties": "expectation"}  # before, two equal captions never were the first
        return ties | super().conditions(settings)

    def reported_settings(self, settings):
        return {}
