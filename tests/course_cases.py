"""Mistakes and cheats for tests/test_course.py, each as a change of the reference solution."""

from typing import NamedTuple


class Case(NamedTuple):
    name: str
    notebook: str
    task: str
    old: str
    """Text of the solution; empty for all of it."""
    new: str
    lost: tuple
    """The tests that must give nothing, `seen` and `hidden`."""
    before: str = ""
    """A cell of the student's own, before all tasks."""


BOTH, HIDDEN = ("seen", "hidden"), ("hidden",)
VIT, ATTENTION, DISTILLATION = "0_vision_transformer", "2_attention", "3_distillation"

MISTAKES = [
    Case("no class token's position", VIT, "embed_layer", "Tensor::cat(&[cls, patches], 1) + &self.pos_embedding",
         "Tensor::cat(&[cls, patches + self.pos_embedding.narrow(1, 1, 49)], 1)", BOTH),
    Case("no softmax", ATTENTION, "self_attention", "scores.softmax(-1, Kind::Float)", "scores", BOTH),
    Case("softmax over the wrong axis", ATTENTION, "self_attention", "softmax(-1,", "softmax(-2,", BOTH),
    Case("no √d", ATTENTION, "self_attention", " / (head_dim as f64).sqrt()", "", BOTH),
    Case("the last layer's attention for all", ATTENTION, "all_layers", "(x, attention)",
         "{ let last = attention[attention.len() - 1].shallow_clone(); (x, attention.iter().map(|_| last.shallow_clone()).collect()) }", HIDDEN),
    Case("attention returned always", ATTENTION, "on_request", "return_attention.then(|| Tensor::stack(&attention, 1))",
         "Some(Tensor::stack(&attention, 1))", HIDDEN),
    Case("heads not fused", ATTENTION, "fuse", "Fusion::Mean => heads.mean_axis(0)", "Fusion::Mean => heads.get(0)", BOTH),
    Case("min for max", ATTENTION, "fuse", "Fusion::Max => heads.max_axis(0)", "Fusion::Max => heads.min_axis(0)", BOTH),
    Case("discard per row", ATTENTION, "discard", "",
         """fn discard(fused: &Tensor, discard_ratio: f64) -> Tensor {
    let count = (fused.size()[1] as f64 * discard_ratio) as i64;
    let smallest = fused.argsort_stable(true, 1, false).narrow(1, 0, count);
    let class = fused.get(0).get(0).copy();
    let kept = fused.scatter_value(1, &smallest, 0.0);
    kept.get(0).get(0).copy_(&class);
    kept
}""", BOTH),
    Case("class token discarded", ATTENTION, "discard", "let smallest = smallest.masked_select(&smallest.not_equal(0));", "", HIDDEN),
    Case("no identity", ATTENTION, "with_residual", "kept + Tensor::eye(kept.size()[0], (Kind::Double, kept.device()))",
         "kept.shallow_clone()", BOTH),
    Case("not renormalised", ATTENTION, "with_residual", "&sum / sum.sum_axis(1).unsqueeze(1)", "sum", BOTH),
    Case("normalised along columns", ATTENTION, "with_residual", "sum.sum_axis(1).unsqueeze(1)", "sum.sum_axis(0).unsqueeze(0)", BOTH),
    Case("product in the wrong order", ATTENTION, "joint_attentions", "step.matmul(&joint)", "joint.matmul(&step)", BOTH),
    Case("last layer only", ATTENTION, "joint_attentions", "step.matmul(&joint)", "step", BOTH),
    Case("wrong reshape", ATTENTION, "attention_heatmap", ".view([7, 7])", ".view([7, 7]).tr()", BOTH),
    Case("class token taken for a patch", ATTENTION, "attention_heatmap", "narrow(0, 1, 49)", "narrow(0, 0, 49)", BOTH),
    Case("weights not saved", DISTILLATION, "save", "checkpoint::write(&path, &checkpoint::state_dict(teacher.variables()))?;",
         "let _ = (teacher, path);", BOTH),
    Case("weights 1 and 1", DISTILLATION, "hard_loss", "0.5 * student_loss + 0.5 * teacher_loss", "student_loss + teacher_loss", BOTH),
    Case("soft for hard labels", DISTILLATION, "hard_loss", "let teacher_loss = cross_entropy(&student.dist, &decisions);",
         "let teacher_loss = -(teacher.softmax(-1, Kind::Float) * student.dist.log_softmax(-1, Kind::Float)).sum(Kind::Float)"
         " / teacher.size()[0] as f64;", BOTH),
    Case("teacher's labels from the student", DISTILLATION, "hard_loss", "teacher.argmax(-1, false)", "student.dist.argmax(-1, false)", BOTH),
    Case("distillation token missing from the position embedding", DISTILLATION, "distilled_embed_layer",
         "Tensor::cat(&[cls, dist, patches], 1) + &self.pos_embedding",
         "{ let position = self.pos_embedding.narrow(1, 0, 50);"
         " let placed = Tensor::cat(&[cls, patches], 1) + position;"
         " Tensor::cat(&[placed.narrow(1, 0, 1), dist, placed.narrow(1, 1, 49)], 1) }", HIDDEN),
    Case("training output averaged", DISTILLATION, "distilled_classifier",
         "HeadLogits { class: self.class.forward(tokens), dist: self.fc_dist.forward(&dist) }",
         "{ let mean = (self.class.forward(tokens) + self.fc_dist.forward(&dist)) / 2.0;"
         " HeadLogits { class: mean.shallow_clone(), dist: mean } }", HIDDEN),
    Case("only one head at inference", DISTILLATION, "average", "(&self.class + &self.dist) / 2.0", "self.dist.shallow_clone()", BOTH),
    Case("heads concatenated at inference", DISTILLATION, "average", "(&self.class + &self.dist) / 2.0",
         "Tensor::cat(&[&self.class, &self.dist], 1)", BOTH),
    Case("teacher in training mode", DISTILLATION, "distillation_step", "teacher.predict(images)?",
         "{ let vitlab::learner::Network::Cnn(cnn) = teacher.network() else { unreachable!() }; cnn.forward(images, true)? }", HIDDEN),
    Case("teacher sees other images", DISTILLATION, "distillation_step", "teacher.predict(images)?", "teacher.predict(&images.flip([0]))?", HIDDEN),
]

CHEATS = []
