"""How the compiled core is built: by clang-cl on Windows, where it is installed.

Visual C++ has no vectors with operators: the core then computes single numbers.
"""

import shutil

from setuptools.command.build_ext import build_ext

TARGETS = {"win-amd64": "x86_64-pc-windows-msvc", "win-arm64": "arm64-pc-windows-msvc"}


class BuildCore(build_ext):
    def build_extensions(self):
        clang = shutil.which("clang-cl")
        target = TARGETS.get(self.plat_name)
        if self.compiler.compiler_type == "msvc" and clang and target:
            if not self.compiler.initialized:
                self.compiler.initialize(self.plat_name)
            self.compiler.cc = clang
            for extension in self.extensions:
                flags = [f"/clang:{flag}" for flag in extension.extra_compile_args]
                extension.extra_compile_args = [f"--target={target}", *flags]
        super().build_extensions()
