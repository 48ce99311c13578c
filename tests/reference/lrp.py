"""AttnLRP in NumPy, as the paper states it (arXiv 2402.05602, section 3): relevance goes back from operation to operation.

No gradients: each rule divides the relevance of an output among its inputs by their shares. Of one image, in float64.
"""

import math

import numpy as np

import small_vits

erf = np.vectorize(math.erf)


def share(relevance, output):
    """relevance / output, where a relevance of zero has no share."""
    return np.divide(relevance, output, out=np.zeros_like(output), where=relevance != 0)


class Propagation:
    """Forward pass that keeps a step back for each step. `biases` and `softmax` sum up the relevance that ends there."""

    def __init__(self, gamma):
        self.gamma = gamma
        self.biases = self.softmax = 0.0

    def add_bias(self, x, bias):
        """Epsilon rule of a sum: [..., m] -> the same."""
        y = x + bias

        def back(relevance):
            part = share(relevance, y)
            self.biases += (part * bias).sum()
            return part * x

        return y, back

    def linear(self, x, layer):
        """γ-rule as Zennit has it for inputs of either sign, with γ = 0 the epsilon rule (equation 8): [S, n] -> [S, m]."""
        weight, bias = layer[0], np.zeros(len(layer[0])) if layer[1] is None else layer[1]
        y = x @ weight.T + bias
        raised, lowered = weight + self.gamma * weight.clip(min=0), weight + self.gamma * weight.clip(max=0)
        positive, negative = x.clip(min=0), x.clip(max=0)

        def back(relevance):
            result = np.zeros_like(x)
            for sign, (first, second) in ((1, (raised, lowered)), (-1, (lowered, raised))):
                counted = bias + self.gamma * (bias.clip(min=0) if sign == 1 else bias.clip(max=0))
                part = share(np.where(np.sign(y) == sign, relevance, 0.0), positive @ first.T + negative @ second.T + counted)
                result += positive * (part @ first) + negative * (part @ second)
                self.biases += (part * counted).sum()
            return result

        return y, back

    def norm(self, x, layer, epsilon):
        """Identity rule for the division and the weights (proposition 3.4), epsilon rule for the linear parts: [S, E] -> [S, E]."""
        weight, bias = layer
        width = x.shape[-1]
        centring = np.eye(width) - np.full((width, width), 1 / width)
        centred = x @ centring.T
        deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
        y, back_bias = self.add_bias(centred / deviation * weight, bias)
        return y, lambda relevance: x * (share(back_bias(relevance), centred) @ centring)

    def product(self, a, b):
        """Uniform and epsilon rule of a matrix product (proposition 3.3): [n, m] · [m, o] -> [n, o], back to a pair."""
        y = a @ b

        def back(relevance):
            part = share(relevance, y) / 2
            return a * (part @ b.T), b * (a.T @ part)

        return y, back

    def attend(self, scores):
        """Softmax by its Taylor expansion (proposition 3.1): [S, S] -> [S, S]."""
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        attention = powers / powers.sum(-1, keepdims=True)

        def back(relevance):
            result = scores * (relevance - attention * relevance.sum(-1, keepdims=True))
            self.softmax += relevance.sum() - result.sum()
            return result

        return attention, back

    def attention(self, x, block, heads):
        tokens, width = x.shape
        split = lambda t: t.reshape(tokens, heads, -1).transpose(1, 0, 2)
        join = lambda t: t.transpose(1, 0, 2).reshape(tokens, width)
        (q, back_q), (k, back_k), (v, back_v) = (self.linear(x, layer) for layer in (block.q, block.k, block.v))
        q, k, v = split(q), split(k), split(v)
        steps, mixed = [], []
        for head in range(heads):
            scores, back_scores = self.product(q[head], k[head].T)
            attention, back_attention = self.attend(scores / q.shape[-1] ** 0.5)
            output, back_output = self.product(attention, v[head])
            steps.append((back_scores, back_attention, back_output))
            mixed.append(output)
        y, back_projection = self.linear(join(np.stack(mixed)), block.proj)

        def back(relevance):
            of_q, of_k, of_v = [], [], []
            for (back_scores, back_attention, back_output), of_output in zip(steps, split(back_projection(relevance))):
                of_attention, of_values = back_output(of_output)
                of_queries, of_keys = back_scores(back_attention(of_attention))
                of_q.append(of_queries), of_k.append(of_keys.T), of_v.append(of_values)
            parts = zip((back_q, back_k, back_v), (of_q, of_k, of_v))
            return sum(back_part(join(np.stack(of_part))) for back_part, of_part in parts)

        return y, back

    def mlp(self, x, block):
        hidden, back_fc1 = self.linear(x, block.fc1)
        y, back_fc2 = self.linear(hidden * (1 + erf(hidden / 2**0.5)) / 2, block.fc2)
        return y, lambda relevance: back_fc1(back_fc2(relevance))  # identity rule for GELU

    def residual(self, x, branch, scale):
        """x + scale · branch(x) by the epsilon rule; a scale takes and gives nothing."""
        y, back_branch = branch
        y = y * (1.0 if scale is None else scale)
        total = x + y
        return total, lambda relevance: share(relevance, total) * x + back_branch(share(relevance, total) * y)

    def block(self, x, block, heads, epsilon):
        normed, back_norm1 = self.norm(x, block.norm1, epsilon)
        mixed, back_attention = self.attention(normed, block, heads)
        middle, back1 = self.residual(x, (mixed, lambda r: back_norm1(back_attention(r))), block.scales[0])
        normed, back_norm2 = self.norm(middle, block.norm2, epsilon)
        hidden, back_mlp = self.mlp(normed, block)
        y, back2 = self.residual(middle, (hidden, lambda r: back_norm2(back_mlp(r))), block.scales[1])
        return y, lambda relevance: back1(back2(relevance))

    def pool(self, x, kind, prefix):
        """[S, E] -> [E] or [2E]"""
        mean = x[prefix:].mean(0)
        count, width = len(x) - prefix, x.shape[1]

        def back(relevance):
            result = np.zeros_like(x)
            if kind != "patches":
                result[0] = relevance[:width]
            if kind != "class":
                result[prefix:] = x[prefix:] / count * share(relevance[-width:], mean)
            return result

        return {"class": x[0], "patches": mean, "both": np.concatenate([x[0], mean])}[kind], back


def numpy_model(model):
    """The same model with arrays in place of tensors."""
    convert = lambda value: (
        value.numpy() if hasattr(value, "numpy")
        else type(value)(convert(v) for v in value) if isinstance(value, (list, tuple))
        else type(value)(**{k: convert(v) for k, v in vars(value).items()}) if hasattr(value, "__dict__")
        else value
    )  # fmt: skip
    return convert(model)


def explain(model, image, target, gamma):
    """Logits, relevance of the tokens [S], and what biases and softmax absorb. `target` is a class or "features"."""
    arrays, steps = numpy_model(model), Propagation(gamma)
    x, backs = small_vits.embed(model, image).numpy(), []
    for block in arrays.blocks:
        x, back = steps.block(x, block, arrays.heads, arrays.epsilon)
        backs.append(back)
    prefix = len(arrays.prefix)
    if arrays.norm_after_pool:
        pooled, back_pool = steps.pool(x, "patches", prefix)
        features, back_norm = steps.norm(pooled[None], arrays.norm, arrays.epsilon)
        back_features = lambda relevance: back_pool(back_norm(relevance)[0])
    else:
        x, back_norm = steps.norm(x, arrays.norm, arrays.epsilon)
        features, back_pool = steps.pool(x, arrays.pool, prefix)
        features, back_features = features[None], lambda relevance: back_norm(back_pool(relevance[0]))
    logits, back_hidden, back_head = features, lambda r: r, lambda r: r
    if arrays.hidden:
        hidden, back_hidden = steps.linear(features, arrays.hidden)
        logits = np.tanh(hidden)  # identity rule
    if arrays.head:
        logits, back_head = steps.linear(logits, arrays.head)
    if arrays.dist:
        from_dist, back_dist = steps.linear(x[1:2], arrays.dist)
        class_half, dist_half = logits / 2, from_dist / 2
        logits = class_half + dist_half
    if target == "features":
        relevance = logits * (logits / np.linalg.norm(logits))
    else:
        relevance = np.where(np.arange(logits.shape[1]) == target, logits, 0.0)
    score = relevance.sum()
    if arrays.dist:
        part = share(relevance, logits)
        at_norm = np.zeros_like(x)
        at_norm[1] = back_dist(part * dist_half)[0]
        at_norm += back_pool(back_hidden(back_head(part * class_half))[0])
        relevance = back_norm(at_norm)
    else:
        relevance = back_features(back_hidden(back_head(relevance)))
    for back in reversed(backs):
        relevance = back(relevance)
    tokens = relevance.sum(-1)
    assert abs(tokens.sum() + steps.biases + steps.softmax - score) < 1e-9 * max(1, abs(score)), model.name
    return logits[0], tokens, np.array([steps.biases, steps.softmax])
