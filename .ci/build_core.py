"""How setuptools builds the compiled core; pyproject.toml names this command.

The flags in pyproject.toml are those of gcc and clang. On Windows, clang-cl compiles
the core if it is installed. Visual C++ has no vectors with operators: with it the core
computes one number at a time, and without AVX.
"""

import shutil

from setuptools.command.build_ext import build_ext

CLANG_TARGETS = {
    "win-amd64": "x86_64-pc-windows-msvc",
    "win-arm64": "aarch64-pc-windows-msvc",
}


class BuildCore(build_ext):
    def finalize_options(self):
        # `package-dir` has this name only to find this file. With it, an editable
        # install would be a finder, not a path.
        self.distribution.package_dir.pop("build_core", None)
        super().finalize_options()

    def build_extension(self, extension):
        if self.compiler.compiler_type == "msvc":
            # Finds Visual C++, or fails; later it would replace `cc`.
            if not self.compiler.initialized:
                self.compiler.initialize(self.plat_name)
            clang, target = shutil.which("clang-cl"), CLANG_TARGETS.get(self.plat_name)
            if clang and target:
                self.compiler.cc = clang
                flags = [f"/clang:{flag}" for flag in extension.extra_compile_args]
                extension.extra_compile_args = [f"--target={target}", *flags]
            else:
                extension.extra_compile_args = ["/std:c++17"]
        super().build_extension(extension)
