"""Statistics that show a collapse: how spread out the features of the test images are, and their effective rank."""

from .protocol import Evaluator, Figure, Scores

ROWS = 2048  # whose singular values are computed


class FeatureStatistics(Evaluator):
    """Standard deviation and effective rank of the test images' features: both fall where they collapse."""

    name = "features"
    figures = (
        Figure(
            "std",
            "feature std",
            "number",
            None,
            key="feature_std",
            low=0.0,
            headline=True,
            shown_in=frozenset({"compare"}),
        ),
        Figure(
            "effective_rank",
            "effective rank",
            "number",
            None,
            key="effective_rank",
            low=0.9,  # 1 of a collapse, as far as it is rounded
            digits=1,
            shown_in=frozenset({"compare"}),
        ),
    )
    in_runs = beside = True
    order = 60
    task_name = "spread of frozen features"

    def evaluate(self, encoder, rows, settings):
        import numpy as np

        from ..data.subsets import STATISTICS, drawn_rows
        from ..nn.collapse import effective_rank, feature_std

        features, labels = rows.test_features(encoder)
        figures = {"std": feature_std(features)}
        figures["effective_rank"] = effective_rank(
            features[drawn_rows(np.arange(len(features)), ROWS, STATISTICS, labels.numpy())]
        )
        return Scores(figures, {"images": len(features)})
