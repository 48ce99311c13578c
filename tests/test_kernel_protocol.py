"""Runs Jupyter's own tests for kernels, which check every message against the protocol's schema."""

import jupyter_kernel_test


class VitlabKernel(jupyter_kernel_test.KernelTests):
    kernel_name = "vitlab"
    language_name = "Rust"
    file_extension = ".rs"
    code_hello_world = 'println!("hello, world");'
    code_stderr = 'eprintln!("a remark");'
    completion_samples = [{"text": "std::collections::HashM", "matches": {"HashMap"}}, {"text": "let x = Vec::<i32>::with_capa"}]
    complete_code_samples = ["1 + 1", "let x = 1;", "fn f() {}"]
    incomplete_code_samples = ["fn f() {", 'println!("a', "let v = vec![1,"]
    invalid_code_samples = ["let x = );", "}"]
    code_generate_error = 'panic!("on purpose");'
    code_execute_result = [{"code": "6 * 7", "result": "42"}, {"code": "1 + 1", "result": "2"}, {"code": "2 + 1", "result": "3"}]
    code_display_data = [
        {
            "code": 'println!("EVCXR_BEGIN_CONTENT text/html\\n<b>1</b>\\nEVCXR_END_CONTENT");\nprintln!("after");',
            "mime": "text/html",
        }
    ]
    code_clear_output = 'println!(r#"VITLAB_OUTPUT {{"clear": {{"wait": false}}}}"#);'
    code_history_pattern = "1?*"
    supported_history_operations = ("tail", "range", "search")
    code_inspect_sample = "std::collections::HashMap"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # The first cell waits until evcxr has started. Later cells finish within the tests' limit of 15 s.
        cls.kc.execute_interactive("let ready = true;", timeout=120, store_history=False)
