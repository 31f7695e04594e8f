"""How far integer weights are from float32: the rule of this project and those of other runtimes.

    python tests/bench/bench_accuracy.py smollm2
    python tests/bench/bench_accuracy.py qwen2 --bits 4 --noise

The text is that of ``glass-export bench``. Every rule rounds weights and activations as its runtime
does, the rest is float32 and the same for all; a rule is applied to all linears and embeddings,
whatever a packager would keep more precise. Columns: the relative error of a layer's FFN on its
float32 inputs, |y - y32| / |y32| averaged over tokens, median and worst layer; KL(float32 || rule)
in nats a token, with only FFNs rounded and with everything rounded; perplexity. +- is the standard
error over tokens. Prints a table, then a JSON line.

A checkpoint may itself have been quantised, and then its weights lie on the grid of one rule.
``--noise`` first adds uniform noise of half a step of 4 bits to them, which float32 then has too.

Legend: D model width, F FFN width, L layers, N output width, S tokens.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tomllib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, quants
from onnxruntime.quantization.matmul_nbits_quantizer import (
    DefaultWeightOnlyQuantConfig,
    DefaultWeightOnlyQuantizer,
)
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from glass_export.bundles import GROUP, BundleFormat
from glass_export.families import find_ffns
from glass_export.load import load_model
from glass_export.recipe import resolve
from glass_export.spec import FfnSite
from glass_export.targets.executorch.quantize import quantized
from glass_export.targets.integer import (
    RoundedTokens,
    rounded_ffns,
    rounded_linears,
    swap,
    with_weight,
)
from glass_export.targets.onnx.numerics import by_channels

Rounding = Callable[[PreTrainedModel, list[FfnSite]], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Rule:
    """How a runtime rounds a model: its FFNs, and its other linears and embeddings."""

    name: str
    ffns: Rounding
    others: Rounding


@dataclass(frozen=True, slots=True)
class Text:
    """What a model makes of the text. Shape: kl and nll [S], nats for each token."""

    kl: Tensor
    nll: Tensor


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What a rule does to a model: errors of its layers [L], and what it makes of the text."""

    layers: Tensor
    ffns: Text
    everything: Text | None = None


def rules(bits: int) -> list[Rule]:
    """The rules of one width, 4 or 8; the first is that of the project's kernels."""
    form: BundleFormat = "int4" if bits == 4 else "int8"
    ours = partial(rounded_linears, form=form)
    llama_cpp = GGMLQuantizationType.Q4_0 if bits == 4 else GGMLQuantizationType.Q8_0
    return [
        Rule("glass", partial(rounded_ffns, form=form), ours),
        Rule("glass, portable ONNX", partial(rounded_ffns, form=form, down=by_channels), ours),
        Rule(
            f"XNNPACK 8da{bits}w",
            partial(_xnnpack_ffns, form=form),
            partial(quantized, dtype=form),
        ),
        _uniform(f"MatMulNBits, {bits} bits", partial(_nbits, bits=bits), RoundedTokens),
        _uniform(f"llama.cpp {llama_cpp.name}", partial(_ggml, kind=llama_cpp), _Q8Tokens),
    ]


@contextmanager
def _xnnpack_ffns(
    model: PreTrainedModel, sites: list[FfnSite], form: BundleFormat
) -> Iterator[None]:
    with ExitStack() as undo:
        for site in sites:
            undo.enter_context(quantized(model.get_submodule(site.path), [], form))
        yield


def _uniform(name: str, weights: Callable[[Tensor], Tensor], tokens: type[nn.Module]) -> Rule:
    """A rule that treats all matrices alike, by the functions of weights and of activations."""

    @contextmanager
    def apply(model: PreTrainedModel, sites: list[FfnSite], inside: bool) -> Iterator[None]:
        ffns = tuple(f"{site.path}." for site in sites)
        rounded: dict[int, Tensor] = {}  # tied layers stay tied
        with ExitStack() as undo:
            for path, layer in list(model.named_modules()):
                if not isinstance(layer, (nn.Linear, nn.Embedding)):
                    continue
                if path.startswith(ffns) != inside:
                    continue
                if id(layer.weight) not in rounded:
                    rounded[id(layer.weight)] = weights(layer.weight)
                new: nn.Module = with_weight(layer, rounded[id(layer.weight)])
                linear = isinstance(layer, nn.Linear)
                swap(undo, model, path, nn.Sequential(tokens(), new) if linear else new)
            yield

    return Rule(name, partial(apply, inside=True), partial(apply, inside=False))


def _nbits(weight: Tensor, bits: int) -> Tensor:
    """The symmetric quantiser of ONNX Runtime, blocks of 32. Shape: [N,D] -> [N,D]."""
    config = DefaultWeightOnlyQuantConfig(block_size=GROUP, is_symmetric=True, bits=bits)
    packed, scales, _ = DefaultWeightOnlyQuantizer(config).qbits_block_quant(
        np.ascontiguousarray(weight.numpy().T)
    )
    if bits == 4:
        packed = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*scales.shape, GROUP)
    middle = np.float32(1 << (bits - 1))
    return torch.from_numpy((packed - middle) * scales[..., None]).reshape(weight.shape)


def _ggml(weight: Tensor, kind: GGMLQuantizationType) -> Tensor:
    """What a GGUF file of this kind holds. Shape: [N,D] -> [N,D]."""
    return torch.from_numpy(quants.dequantize(quants.quantize(weight.numpy(), kind), kind))


class _Q8Tokens(nn.Module):
    """Activations as llama.cpp rounds them: int8 with a float16 scale for each 32 values."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape: [..,D] -> [..,D]."""
        return _ggml(x, GGMLQuantizationType.Q8_0)


def passages(tokenizer: PreTrainedTokenizerBase) -> list[Tensor]:
    """Tokens [S] of the passages of ``glass-export bench``, each whole."""
    source = files("glass_export.bench") / "texts" / "passages.toml"
    texts = tomllib.loads(source.read_text(encoding="utf-8"))["passage"]
    return [
        torch.tensor(tokenizer.encode(text["prompt"].strip("\n") + "\n" + text["continuation"]))
        for text in texts
    ]


class Reference:
    """A model in float32, and what it makes of texts [S] and of its FFNs' inputs [S,D]."""

    def __init__(self, model: PreTrainedModel, sites: list[FfnSite], texts: list[Tensor]) -> None:
        self.model, self.sites, self._texts = model, sites, texts
        self._inputs, self._logs = self._read()
        self._outputs = list(self._ffns())

    def text(self) -> Text:
        """The model as it is now, against float32."""
        kl, nll = [], []
        for tokens, expected in zip(self._texts, self._logs, strict=True):
            logs = self._log_probabilities(tokens)
            kl.append((expected.exp() * (expected - logs)).sum(-1, dtype=torch.float64))
            nll.append(-logs.gather(1, tokens[1:, None])[:, 0].double())
        return Text(torch.cat(kl), torch.cat(nll))

    def layers(self) -> Tensor:
        """Mean relative errors of the FFNs as they are now. Shape: [L]."""
        pairs = zip(self._ffns(), self._outputs, strict=True)
        return torch.stack([((y - y32).norm(dim=-1) / y32.norm(dim=-1)).mean() for y, y32 in pairs])

    def _read(self) -> tuple[list[Tensor], list[Tensor]]:
        """Inputs of every FFN over all texts, and log probabilities of every text."""
        seen: list[list[Tensor]] = [[] for _ in self.sites]

        def keep(_: nn.Module, inputs: tuple[Tensor], to: list[Tensor]) -> None:
            to.append(inputs[0][0].clone())

        with ExitStack() as undo:
            for site, to in zip(self.sites, seen, strict=True):
                ffn = self.model.get_submodule(site.path)
                undo.callback(ffn.register_forward_pre_hook(partial(keep, to=to)).remove)
            logs = [self._log_probabilities(tokens) for tokens in self._texts]
        return [torch.cat(parts) for parts in seen], logs

    def _ffns(self) -> Iterator[Tensor]:
        for site, x in zip(self.sites, self._inputs, strict=True):
            yield self.model.get_submodule(site.path)(x)

    def _log_probabilities(self, tokens: Tensor) -> Tensor:
        return self.model(input_ids=tokens[None], use_cache=False).logits[0, :-1].log_softmax(-1)


def measure(reference: Reference, rule: Rule, *, everything: bool = True) -> Accuracy:
    """Apply a rule and compare; ``everything``: also with all linears and embeddings rounded."""
    model, sites = reference.model, reference.sites
    with rule.ffns(model, sites):
        layers, ffns = reference.layers(), reference.text()
        if not everything:
            return Accuracy(layers, ffns)
        with rule.others(model, sites):
            return Accuracy(layers, ffns, reference.text())


def add_noise(model: PreTrainedModel) -> None:
    """Add noise of half a step of 4 bits, in groups of 32 along a row, to all weights in place."""
    random = torch.Generator().manual_seed(0)
    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Embedding))]
    for weight in {id(layer.weight): layer.weight for layer in layers}.values():
        groups = weight.view(len(weight), -1, GROUP)
        step = (groups.amax(-1, keepdim=True) - groups.amin(-1, keepdim=True)) / 15
        groups += step * (torch.rand(groups.shape, generator=random) - 0.5)


def mean(values: Tensor) -> tuple[float, float]:
    """Mean and its standard error."""
    return float(values.mean()), float(values.std() / len(values) ** 0.5)


def row(accuracy: Accuracy, ours: Accuracy) -> dict[str, float]:
    """The figures of one rule. ``_over_glass``: by how much a token's number is above ours."""
    layers = accuracy.layers.tolist()
    result = {"ffn_error_median": statistics.median(layers), "ffn_error_worst": max(layers)}
    parts = {"ffns": (accuracy.ffns, ours.ffns)}
    if accuracy.everything and ours.everything:
        parts["everything"] = (accuracy.everything, ours.everything)
    for part, (text, our_text) in parts.items():
        result[f"perplexity_{part}"] = float(text.nll.mean().exp())
        for name, values, our_values in (
            ("kl", text.kl, our_text.kl),
            ("nll", text.nll, our_text.nll),
        ):
            key = f"{name}_{part}"
            result[key], result[f"{key}_se"] = mean(values)
            over = mean(values - our_values)
            result[f"{key}_over_glass"], result[f"{key}_over_glass_se"] = over
    return result


def run(model: str, widths: list[int], *, noise: bool) -> dict[str, Any]:
    """All rules on one model, by width and rule."""
    loaded = load_model(resolve(model).model)
    if noise:
        add_noise(loaded.model)
    reference = Reference(loaded.model, find_ffns(loaded.model), passages(loaded.tokenizer))
    plain = reference.text().nll
    results: dict[str, Any] = {"tokens": len(plain), "perplexity": float(plain.mean().exp())}
    for bits in widths:
        found = {rule.name: measure(reference, rule) for rule in rules(bits)}
        results[str(bits)] = {name: row(one, found["glass"]) for name, one in found.items()}
    return results


def show(results: dict[str, Any], bits: int) -> None:
    """Print the table of one width."""
    print(f"{f'{bits} bits':22}{'FFN error':>10}{'worst':>8}", end="")
    print(f"{'KL, FFNs':>20}{'PPL':>8}{'KL, everything':>20}{'PPL':>8}")
    for name, figures in results[str(bits)].items():
        errors = figures["ffn_error_median"], figures["ffn_error_worst"]
        print(f"{name:22}{errors[0]:10.4f}{errors[1]:8.4f}", end="")
        for part in ("ffns", "everything"):
            kl = f"{figures[f'kl_{part}']:.5f} +-{figures[f'kl_{part}_se']:.5f}"
            print(f"{kl:>20}{figures[f'perplexity_{part}']:8.3f}", end="")
        print()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="a recipe, see `glass-export recipes`")
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 8], choices=(4, 8))
    parser.add_argument("--noise", action="store_true", help="add noise to the weights first")
    options = parser.parse_args()
    with torch.no_grad():
        results = run(options.model, options.bits, noise=options.noise)
    weights = "with noise" if options.noise else "as they are"
    print(f"{options.model}, weights {weights}, {results['tokens']} tokens, ", end="")
    print(f"float32 perplexity {results['perplexity']:.3f}")
    for bits in options.bits:
        show(results, bits)
    head = {"bench": "accuracy", "model": options.model, "noise": options.noise}
    print(json.dumps(head | results))


if __name__ == "__main__":
    main()
