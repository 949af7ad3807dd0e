# hf.py - the library's models in float32, corrected where they deviate
# SPDX-License-Identifier: Apache-2.0
"""Loads a case into transformers through its own loader, so that the names
on disk are checked too. Every correction is returned as a sentence.
"""

import json

import torch
import transformers
from safetensors.torch import save_file
from transformers.models.deepseek_v2 import modeling_deepseek_v2 as v2
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as v3

import reference

V2_NORM = ("DeepseekV2TopkRouter: with top_k > 1 and norm_topk_prob the "
           "weights are divided by their sum + 1e-20 and "
           "routed_scaling_factor is skipped, as DeepSeek's own code does; "
           "transformers ignores norm_topk_prob")
FP8 = ("loaded from float32 weights expanded block by block (e4m3 value * "
       "scale_inv); no activation quantisation")


def v2_router(self, x):
    """DeepseekV2TopkRouter.forward with the remote code's normalisation."""
    logits, w, idx = self.unpatched_forward(x)
    if self.top_k > 1 and self.norm_topk_prob:
        p = logits.softmax(dim=-1, dtype=torch.float32).gather(1, idx)
        w = p / (p.sum(dim=-1, keepdim=True) + 1e-20)
    return logits, w, idx


def patch(model):
    """Corrects the modules of one model."""
    patches = []
    for module in model.modules():
        if isinstance(module, v2.DeepseekV2TopkRouter):
            if not model.config.norm_topk_prob:
                continue
            module.norm_topk_prob = True
            module.unpatched_forward = module.forward
            module.forward = v2_router.__get__(module)
            patches = [V2_NORM]
    return patches


def check_library():
    """The semantics that older versions got wrong and this one must not."""
    router = v3.DeepseekV3TopkRouter(transformers.DeepseekV3Config(
        hidden_size=4, n_routed_experts=4, n_group=2, topk_group=1,
        num_experts_per_tok=2))
    router.weight.copy_(torch.eye(4))
    router.e_score_correction_bias.copy_(
        torch.tensor([-5.0, -5.0, -6.0, -6.0]))
    chosen = router(torch.zeros(1, 4))[2]
    assert chosen.max() < 2, "masks losing groups with 0.0, not -inf"
    scale = v2.yarn_apply_mscale({"rope_type": "yarn", "factor": 40.0,
                                  "mscale_all_dim": 0.707}, 192 ** -0.5)
    assert abs(scale - 0.11472) < 1e-5, "V2 omits mscale from the softmax"


def expand_fp8(folder, scratch):
    """A copy of the checkpoint with its fp8 blocks expanded to float32."""
    tensors = {name: t.float().contiguous() for name, t in
               reference.load_tensors(folder).items()}
    save_file(tensors, scratch / "model.safetensors", {"format": "pt"})
    cfg = json.loads((folder / "config.json").read_text())
    del cfg["quantization_config"]
    (scratch / "config.json").write_text(json.dumps(cfg))
    return scratch


def load(folder, scratch, layers):
    """The model in float32, eager attention and experts; the corrections.

    Tensors of layers after the last are the only ones that may go unused.
    """
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    check_library()
    cfg = json.loads((folder / "config.json").read_text())
    fp8 = "quantization_config" in cfg
    generation = transformers.GenerationConfig.from_pretrained(folder)
    if fp8:
        folder = expand_fp8(folder, scratch)
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager",
        experts_implementation="eager", output_loading_info=True)
    unused = [name for name in info["unexpected_keys"]
              if not name.startswith(f"model.layers.{layers}.")]
    assert not unused, unused
    assert not info["missing_keys"] and not info["mismatched_keys"], info
    assert all(p.dtype == torch.float32 for p in model.parameters())
    model.generation_config = generation
    model.eval()
    return model, ([FP8] if fp8 else []) + patch(model)


def logits(model, ids):
    """[n, V] float32, the whole sequence at once, no cache."""
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
