"""What schemathesis (test_clients.py) may not say: what would be right and take hours; and what only the model knows: its
last id, and what its chat template wants."""
import schemathesis

N_IDS = 49152


def is_number(value, least, most):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


def known(ids):
    if isinstance(ids, list):
        return [known(one) for one in ids]
    return ids % N_IDS if is_number(ids, N_IDS, 2**31 - 1) else ids


@schemathesis.hook
def before_call(context, case, kwargs):
    body = case.body
    if not isinstance(body, dict):
        return
    if "prompt" in body or "messages" in body:
        for name, most in (("max_tokens", 2**32 - 1), ("max_completion_tokens", 2**32 - 1), ("n", 128)):
            if is_number(body.get(name), 3, most):
                body[name] = 2
        if body.get("max_tokens") is None and body.get("max_completion_tokens") is None:
            body["max_tokens"] = 2
    for message in body["messages"] if isinstance(body.get("messages"), list) else []:
        if isinstance(message, dict) and "tool_calls" in message and message.get("content") is None:
            message["content"] = ""  # this model's template wants one
    for name in ("prompt", "tokens", "input"):
        if isinstance(body.get(name), list):
            body[name] = known(body[name])
    biases = body.get("logit_bias")
    if isinstance(biases, dict):
        body["logit_bias"] = {str(known(int(key))) if key.isascii() and key.isdigit() else key: bias for key, bias in biases.items()}
    if isinstance(biases, list):
        body["logit_bias"] = [[known(pair[0]), *pair[1:]] if isinstance(pair, list) and pair else pair for pair in biases]
