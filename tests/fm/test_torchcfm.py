"""Agreement with torchcfm on what both have, given the same t, noise and pairs.

`make test` installs torchcfm; elsewhere `pip install --no-deps torchcfm`, or these tests are left out.
"""

import pytest
import torch

from fm import couplings, paths

cfm = pytest.importorskip("torchcfm.conditional_flow_matching")
plans = pytest.importorskip("torchcfm.optimal_transport")


def ends():
    generator = torch.Generator().manual_seed(0)
    x0, x1, noise = (torch.randn(64, 2, generator=generator, dtype=torch.float64) for _ in range(3))
    return x0, x1, noise, 0.02 + 0.96 * torch.rand(64, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    "theirs,ours",
    [
        (lambda: cfm.ConditionalFlowMatcher(0.1), paths.linear(0.1)),
        (lambda: cfm.TargetConditionalFlowMatcher(0.1), paths.lipman(0.1)),
        (lambda: cfm.SchrodingerBridgeConditionalFlowMatcher(0.5), paths.bridge(0.5)),
        (lambda: cfm.VariancePreservingConditionalFlowMatcher(0.0), paths.variance_preserving()),
    ],
    ids=["linear", "lipman", "bridge", "variance-preserving"],
)
def test_paths_agree(theirs, ours):
    x0, x1, noise, t = ends()
    matcher = theirs()
    x, u = ours(x0, x1, t, noise)
    if ours.name == "lipman":  # theirs draws the Gaussian end as ε, ours takes it as x0
        wanted = matcher.sample_xt(x0, x1, t, x0)
        velocity = matcher.compute_conditional_flow(x0, x1, t, wanted)
    else:
        wanted = matcher.sample_xt(x0, x1, t, noise)
        velocity = matcher.compute_conditional_flow(x0, x1, t, wanted)
    assert torch.allclose(x, wanted, rtol=1e-6, atol=1e-9)
    assert torch.allclose(u, velocity, rtol=1e-6, atol=1e-6)


def test_plans_agree():
    x0, x1, _, _ = ends()
    exact = torch.from_numpy(plans.OTPlanSampler(method="exact").get_map(x0, x1))
    assert torch.equal(exact.argmax(0), couplings.assignment(x0, x1))
    entropic = torch.from_numpy(plans.OTPlanSampler(method="sinkhorn", reg=0.5).get_map(x0, x1))
    assert torch.allclose(couplings.sinkhorn_plan(x0, x1, regularization=0.5), entropic, rtol=1e-6, atol=1e-9)
