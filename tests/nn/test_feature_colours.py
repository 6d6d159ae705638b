"""Principal components as colours."""

import torch

from hfcontrast.nn.feature_colours import PrincipalColours, colour_picture


def test_colours_are_the_first_three_components_by_variance():
    generator = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(10, 10, generator=generator))
    scores = torch.randn(20, 30, 10, generator=generator) * torch.tensor([9.0, 5, 3, *[0.1] * 7])
    features = 4 + scores @ basis.T
    colours = PrincipalColours(features)(features)
    assert colours.shape == (20, 30, 3)
    for component in range(3):
        expected = (scores[..., component] - scores[..., component].mean()) / scores[..., component].std()
        together = torch.corrcoef(torch.stack([colours[..., component].flatten(), expected.clamp(-2, 2).flatten()]))
        assert abs(float(together[0, 1])) > 0.99
        assert abs(float(colours[..., component].mean())) < 0.05
    assert colours.abs().max() <= 2


def test_signs_do_not_depend_on_the_solver():
    """Turned by 180 degrees, the features have the colours turned too; the same features always have the same."""
    features = torch.randn(50, 6) * torch.tensor([5.0, 4, 3, 2, 1, 1])
    colours = PrincipalColours(features)
    largest = colours.directions.gather(0, colours.directions.abs().argmax(dim=0, keepdim=True))
    assert (largest > 0).all()
    torch.testing.assert_close(PrincipalColours(features)(features), colours(features))


def test_features_that_are_all_alike_have_no_colour():
    features = torch.ones(4, 5, 8)
    assert torch.equal(PrincipalColours(features)(features), torch.zeros(4, 5, 3))


def test_pictures_show_the_patches_at_their_places():
    colours = torch.arange(12.0).view(1, 4, 3)
    picture = colour_picture(colours, (2, 2), (4, 6))
    assert picture.shape == (1, 3, 4, 6)
    assert torch.equal(picture[0, :, 0, 0], colours[0, 0]) and torch.equal(picture[0, :, 1, 5], colours[0, 1])
    assert torch.equal(picture[0, :, 3, 2], colours[0, 2]) and torch.equal(picture[0, :, 2, 3], colours[0, 3])
