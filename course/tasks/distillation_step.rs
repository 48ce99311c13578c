//! Write one training step of the student: the teacher decides about the same augmented images, without learning from them;
//! `student.step` gives the loss and its gradient.
//# frame
use vitlab::train::Batch;

/// Augmented images [B, 1, 28, 28], labels [B] -> loss, logits and gradient of the student
fn distillation_step(student: &Learner, teacher: &Learner, images: &Tensor, labels: &Tensor) -> vitlab::Result<Batch> {
    let hard_loss = vitlab::distill::HardDistillationLoss::default();
    //= lines
}
//# seen
use ::vitlab::learner::Learner;
use ::vitlab::model::{Cnn, MyDeiT};
use ::vitlab::tch::{Device, Kind, Tensor};
let config = ::vitlab::Config { dropout: 0.0, ..::vitlab::Config::default() };
let (student, teacher) =
    (Learner::new(MyDeiT::new(&config, Device::Cpu).unwrap()), Learner::new(Cnn::new(&config, Device::Cpu).unwrap()));
let images = Tensor::randn([8, 1, 28, 28], (Kind::Float, Device::Cpu));
let labels = Tensor::randint(10, [8], (Kind::Int64, Device::Cpu));
let step: ::vitlab::train::Batch = distillation_step(&student, &teacher, &images, &labels).unwrap();
let loss = step.loss.double_value(&[]);
::std::assert!((2.0..2.7).contains(&loss), "an untrained student's loss is near ln 10 = 2.30, here {loss:.2}");
//# hidden
use ::vitlab::learner::Learner;
use ::vitlab::model::{Cnn, Model, MyDeiT};
use ::vitlab::tch::{Device, Kind, Tensor, no_grad};
let config = ::vitlab::Config { dropout: 0.0, ..::vitlab::Config::default() };
let student = Learner::plain(MyDeiT::new(&config, Device::Cpu).unwrap());
let teacher = Learner::plain(Cnn::new(&config, Device::Cpu).unwrap());
let images = Tensor::randn([8, 1, 28, 28], (Kind::Float, Device::Cpu)) * 3.0 + 1.0;
let labels = Tensor::randint(10, [8], (Kind::Int64, Device::Cpu));
// An untrained teacher decides for one class. Centred logits make it decide for several.
let mean = teacher.predict(&images).unwrap().mean_dim(0i64, false, Kind::Float);
no_grad(|| teacher.variables().variables()["fc2.bias"].shallow_clone().g_sub_(&mean));
let decided = teacher.predict(&images).unwrap().argmax(-1, false);
::std::assert!(decided != decided.flip([0]), "the test needs other images");
let before: ::std::vec::Vec<(::std::string::String, Tensor)> =
    teacher.variables().variables().into_iter().map(|(name, tensor)| (name, tensor.detach().copy())).collect();
let step: ::vitlab::train::Batch = distillation_step(&student, &teacher, &images, &labels).unwrap();
let after = teacher.variables().variables();
for (name, tensor) in &before {
    ::std::assert!(after[name] == *tensor, "the teacher's {name} has changed: it doesn't learn while it teaches");
}
let (heads, _) = no_grad(|| student.deit().unwrap().forward(&images, false, false)).unwrap();
let mut expected = 0.0;
for (head, targets) in [(&heads.class, &labels), (&heads.dist, &decided)] {
    let log_p = head.log_softmax(-1, Kind::Double);
    expected -= 0.5 * log_p.gather(1, &targets.unsqueeze(1), false).mean(Kind::Double).double_value(&[]);
}
let loss = step.loss.double_value(&[]);
::std::assert!((loss - expected).abs() < 1e-5, "the loss is {expected:.5}, here {loss:.5}");
