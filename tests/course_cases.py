"""Mistakes and cheats for tests/test_course.py, each as a change of the reference solution."""

from typing import NamedTuple


class Case(NamedTuple):
    name: str
    notebook: str
    task: str
    old: str
    """Text of the solution; empty for all of it."""
    new: str
    before: str = ""
    """A cell of the student's own, before all tasks."""
    compiles: bool = True


VIT, ATTENTION, DISTILLATION = "0_vision_transformer", "2_attention", "3_distillation"

MISTAKES = [
    Case("no class token's position", VIT, "embed_layer", "Tensor::cat(&[cls, patches], 1) + &self.pos_embedding",
         "Tensor::cat(&[cls, patches + self.pos_embedding.narrow(1, 1, 49)], 1)"),
    Case("no softmax", ATTENTION, "self_attention", "scores.softmax(-1, Kind::Float)", "scores"),
    Case("softmax over the wrong axis", ATTENTION, "self_attention", "softmax(-1,", "softmax(-2,"),
    Case("no √d", ATTENTION, "self_attention", " / (head_dim as f64).sqrt()", ""),
    Case("the last layer's attention for all", ATTENTION, "all_layers", "(x, attention)",
         "{ let last = attention[attention.len() - 1].shallow_clone(); (x, attention.iter().map(|_| last.shallow_clone()).collect()) }"),
    Case("attention returned always", ATTENTION, "on_request", "return_attention.then(|| Tensor::stack(&attention, 1))",
         "Some(Tensor::stack(&attention, 1))"),
    Case("heads not fused", ATTENTION, "fuse", "Fusion::Mean => heads.mean_axis(0)", "Fusion::Mean => heads.get(0)"),
    Case("min for max", ATTENTION, "fuse", "Fusion::Max => heads.max_axis(0)", "Fusion::Max => heads.min_axis(0)"),
    Case("discard per row", ATTENTION, "discard", "",
         """fn discard(fused: &Tensor, discard_ratio: f64) -> Tensor {
    let count = (fused.size()[1] as f64 * discard_ratio) as i64;
    let smallest = fused.argsort_stable(true, 1, false).narrow(1, 0, count);
    let class = fused.get(0).get(0).copy();
    let kept = fused.scatter_value(1, &smallest, 0.0);
    kept.get(0).get(0).copy_(&class);
    kept
}"""),
    Case("class token discarded", ATTENTION, "discard", "let smallest = smallest.masked_select(&smallest.not_equal(0));", ""),
    Case("no identity", ATTENTION, "with_residual", "kept + Tensor::eye(kept.size()[0], (Kind::Double, kept.device()))",
         "kept.shallow_clone()"),
    Case("not renormalised", ATTENTION, "with_residual", "&sum / sum.sum_axis(1).unsqueeze(1)", "sum"),
    Case("normalised along columns", ATTENTION, "with_residual", "sum.sum_axis(1).unsqueeze(1)", "sum.sum_axis(0).unsqueeze(0)"),
    Case("product in the wrong order", ATTENTION, "joint_attentions", "step.matmul(&joint)", "joint.matmul(&step)"),
    Case("last layer only", ATTENTION, "joint_attentions", "step.matmul(&joint)", "step"),
    Case("wrong reshape", ATTENTION, "attention_heatmap", ".view([7, 7])", ".view([7, 7]).tr()"),
    Case("class token taken for a patch", ATTENTION, "attention_heatmap", "narrow(0, 1, 49)", "narrow(0, 0, 49)"),
    Case("weights not saved", DISTILLATION, "save", "checkpoint::write(&path, &checkpoint::state_dict(teacher.variables()))?;",
         "let _ = (teacher, path);"),
    Case("weights 1 and 1", DISTILLATION, "hard_loss", "0.5 * student_loss + 0.5 * teacher_loss", "student_loss + teacher_loss"),
    Case("soft for hard labels", DISTILLATION, "hard_loss", "let teacher_loss = cross_entropy(&student.dist, &decisions);",
         "let teacher_loss = -(teacher.softmax(-1, Kind::Float) * student.dist.log_softmax(-1, Kind::Float)).sum(Kind::Float)"
         " / teacher.size()[0] as f64;"),
    Case("teacher's labels from the student", DISTILLATION, "hard_loss", "teacher.argmax(-1, false)", "student.dist.argmax(-1, false)"),
    Case("distillation token missing from the position embedding", DISTILLATION, "distilled_embed_layer",
         "Tensor::cat(&[cls, dist, patches], 1) + &self.pos_embedding",
         "{ let position = self.pos_embedding.narrow(1, 0, 50);"
         " let placed = Tensor::cat(&[cls, patches], 1) + position;"
         " Tensor::cat(&[placed.narrow(1, 0, 1), dist, placed.narrow(1, 1, 49)], 1) }"),
    Case("training output averaged", DISTILLATION, "distilled_classifier",
         "HeadLogits { class: self.class.forward(tokens), dist: self.fc_dist.forward(&dist) }",
         "{ let mean = (self.class.forward(tokens) + self.fc_dist.forward(&dist)) / 2.0;"
         " HeadLogits { class: mean.shallow_clone(), dist: mean } }"),
    Case("only one head at inference", DISTILLATION, "average", "(&self.class + &self.dist) / 2.0", "self.dist.shallow_clone()"),
    Case("heads concatenated at inference", DISTILLATION, "average", "(&self.class + &self.dist) / 2.0",
         "Tensor::cat(&[&self.class, &self.dist], 1)"),
    Case("teacher in training mode", DISTILLATION, "distillation_step", "teacher.predict(images)?",
         "{ let vitlab::learner::Network::Cnn(cnn) = teacher.network() else { unreachable!() }; cnn.forward(images, true)? }"),
    Case("teacher sees other images", DISTILLATION, "distillation_step", "teacher.predict(images)?", "teacher.predict(&images.flip([0]))?"),
]

CHEATS = [
    Case("expected text printed", ATTENTION, "fuse", "", """fn fuse(heads: &Tensor, fusion: Fusion) -> Tensor {
    println!("test result: ok. 3 points");
    println!("3.0");
    heads.get(0).zeros_like()
}"""),
    Case("constant of the visible test", ATTENTION, "with_residual", "", """fn with_residual(kept: &Tensor) -> Tensor {
    Tensor::from_slice(&[0.5, 0.5, 0.25, 0.75]).view([2, 2])
}"""),
    Case("assert redefined", ATTENTION, "discard", "", "fn discard(fused: &Tensor, discard_ratio: f64) -> Tensor {\n    fused.zeros_like()\n}",
         before="".join(f"macro_rules! {name} {{ ($($all:tt)*) => {{ () }}; }}\n" for name in ["assert", "assert_eq"])),
    Case("process ended", ATTENTION, "joint_attentions", "let mut joint", "std::process::exit(0);\n    let mut joint"),
    Case("cell's end printed, then process ended", ATTENTION, "attention_heatmap", "let joint",
         'println!("EVCXR_EXECUTION_COMPLETE");\n    std::process::exit(0);\n    let joint'),
    Case("endless loop", ATTENTION, "all_layers", "let mut attention", "loop {}\n    let mut attention"),
    Case("hidden test read while it runs", ATTENTION, "on_request", "",
         """struct AttentionVit {
    vit: VisionTransformer,
}
impl AttentionVit {
    fn forward(&self, images: &Tensor, train: bool, return_attention: bool) -> vitlab::Result<(Tensor, Option<Tensor>)> {
        // The kernel keeps the source of the running cell here. Sizes are all that a test tells.
        let folder = std::env::var("EVCXR_TMPDIR").unwrap();
        let test = std::fs::read_to_string(format!("{folder}/src/lib.rs")).unwrap();
        let places = test.match_indices(".size(), [").map(|(place, text)| place + text.len());
        let list = |place: usize| test[place..].split(']').next().unwrap().split(',').filter_map(|n| n.trim().parse().ok()).collect::<Vec<i64>>();
        let size = places.map(list).find(|size| size.first() == Some(&images.size()[0])).unwrap();
        Ok((Tensor::zeros(size, (Kind::Float, Device::Cpu)), Some(Tensor::zeros([1, 6, 4, 50, 50], (Kind::Float, Device::Cpu)))))
    }
}"""),
    Case("memory taken until the end", ATTENTION, "self_attention", "let head_dim",
         "let mut taken = Vec::new();\n        loop {\n            taken.push(vec![1u8; 1 << 26]);\n            if taken.len() > 1 << 12 { break; }\n        }\n"
         "        let head_dim"),
    Case("early return", DISTILLATION, "average", "(&self.class + &self.dist) / 2.0", "return self.class.shallow_clone();"),
    Case("return in the cell", DISTILLATION, "hard_loss", "0.5 * student_loss + 0.5 * teacher_loss\n    }\n}",
         "student_loss\n    }\n}\nreturn Ok(());", compiles=False),
    Case("abort", DISTILLATION, "distilled_classifier", "let dist", "std::process::abort();\n        let dist"),
    Case("another thread's panic", DISTILLATION, "save", "Ok(())", "std::thread::spawn(|| panic!()).join().unwrap();\n    Ok(())"),
    Case("signal", DISTILLATION, "distillation_step", "let hard_loss", 'std::process::Command::new("sh").args(["-c", "kill -9 $PPID"]).status().unwrap();\n    let hard_loss'),
]

OUTSIDE = """
{{
    let course = "{course}";
    let refused = |path: String| std::fs::write(&path, "x").is_err();
    println!("course empty: {{}}", !std::path::Path::new(course).join("gradebook.db").exists());
    println!("network: {{:?}}", std::net::TcpStream::connect("127.0.0.1:{port}").is_ok());
    println!("home refused: {{}}", refused(format!("{{}}/.vitlab-test", std::env::var("HOME")?)));
    println!("clone refused: {{}}", refused("../Cargo.lock".into()));
    println!("unmount refused: {{}}", !std::process::Command::new("umount").arg(course).status()?.success());
    println!("notebooks: {{}}", std::fs::read_dir(".")?.count());
    let folder = std::env::var("EVCXR_TMPDIR")?;
    std::fs::write(format!("{{folder}}/../left-behind"), "x")?;
}}
"""
"""A cell that tries to get out of the sandbox."""
