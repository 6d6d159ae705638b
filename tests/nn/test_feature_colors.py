"""Principal components as colors."""

import torch

from hfcontrast.nn.feature_colors import PrincipalColors, color_image


def test_colors_are_the_first_three_components_by_variance():
    generator = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(10, 10, generator=generator))
    scores = torch.randn(20, 30, 10, generator=generator) * torch.tensor([9.0, 5, 3, *[0.1] * 7])
    features = 4 + scores @ basis.T
    colors = PrincipalColors(features)(features)
    assert colors.shape == (20, 30, 3)
    for component in range(3):
        expected = (scores[..., component] - scores[..., component].mean()) / scores[..., component].std()
        together = torch.corrcoef(torch.stack([colors[..., component].flatten(), expected.clamp(-2, 2).flatten()]))
        assert abs(float(together[0, 1])) > 0.99
        assert abs(float(colors[..., component].mean())) < 0.05
    assert colors.abs().max() <= 2


def test_signs_do_not_depend_on_the_solver():
    """Turned by 180 degrees, the features have the colors turned too; the same features always have the same."""
    features = torch.randn(50, 6) * torch.tensor([5.0, 4, 3, 2, 1, 1])
    colors = PrincipalColors(features)
    largest = colors.directions.gather(0, colors.directions.abs().argmax(dim=0, keepdim=True))
    assert (largest > 0).all()
    torch.testing.assert_close(PrincipalColors(features)(features), colors(features))


def test_features_that_are_all_alike_have_no_color():
    features = torch.ones(4, 5, 8)
    assert torch.equal(PrincipalColors(features)(features), torch.zeros(4, 5, 3))


def test_images_show_the_patches_at_their_places():
    colors = torch.arange(12.0).view(1, 4, 3)
    picture = color_image(colors, (2, 2), (4, 6))
    assert picture.shape == (1, 3, 4, 6)
    assert torch.equal(picture[0, :, 0, 0], colors[0, 0]) and torch.equal(picture[0, :, 1, 5], colors[0, 1])
    assert torch.equal(picture[0, :, 3, 2], colors[0, 2]) and torch.equal(picture[0, :, 2, 3], colors[0, 3])
