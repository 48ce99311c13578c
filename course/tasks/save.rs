//! Write `save`: the teacher's weights become an ordinary PyTorch state dict, such as `teacher_model.pt`.
//# frame
fn save(teacher: &Learner, path: &std::path::Path) -> vitlab::Result<()> {
    //= lines
    Ok(())
}
//# seen
use ::vitlab::learner::Learner;
let config = ::vitlab::Config::default();
let network = Learner::new(::vitlab::model::Cnn::new(&config, ::vitlab::tch::Device::Cpu).unwrap());
let path = ::std::env::temp_dir().join(::std::format!("teacher_model-{}.pt", ::std::process::id()));
save(&network, &path).unwrap();
::std::assert!(path.is_file(), "save has written no file");
::std::fs::remove_file(&path).unwrap();
//# hidden
use ::vitlab::learner::Learner;
use ::vitlab::model::Model;
use ::vitlab::tch::{Device, Kind, Tensor};
let config = ::vitlab::Config::default();
let network = Learner::new(::vitlab::model::Cnn::new(&config, Device::Cpu).unwrap());
let path = ::std::env::temp_dir().join(::std::format!("saved-{}.pt", ::std::process::id()));
save(&network, &path).unwrap();
let read = Learner::read(&path, Device::Cpu).unwrap();
::std::fs::remove_file(&path).unwrap();
let images = Tensor::randn([4, 1, 28, 28], (Kind::Float, Device::Cpu));
let apart = (read.predict(&images).unwrap() - network.predict(&images).unwrap()).abs().max().double_value(&[]);
::std::assert!(apart < 1e-6, "the network that is read back predicts other logits, by {apart:.1e}");
