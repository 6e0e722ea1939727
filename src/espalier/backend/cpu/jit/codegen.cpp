// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/jit/codegen.h"

#include <llvm/Config/llvm-config.h>
#include <llvm/IR/LegacyPassManager.h>
#include <llvm/IR/Verifier.h>
#include <llvm/MC/TargetRegistry.h>
#include <llvm/Support/TargetSelect.h>
#include <llvm/Target/TargetMachine.h>

#include <mutex>

#include "espalier/backend/cpu/jit/emit_loop.h"
#include "espalier/base/error.h"

namespace espalier::cpu::jit {
namespace {

const char* processor(const CodegenTarget& target) {
  return target.avx512 ? "x86-64-v4" : "x86-64-v3";
}

std::unique_ptr<llvm::TargetMachine> make_machine(const CodegenTarget& target) {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
  });
  const std::string triple = "x86_64-unknown-linux-gnu";
  std::string error;
  const llvm::Target* entry = llvm::TargetRegistry::lookupTarget(triple, error);
  ESPALIER_CHECK(entry, ErrorKind::unsupported, "jit", "LLVM has no x86-64 target: {}", error);
  return std::unique_ptr<llvm::TargetMachine>(entry->createTargetMachine(
      triple, processor(target), "", llvm::TargetOptions(), llvm::Reloc::PIC_,
      llvm::CodeModel::Small, llvm::CodeGenOptLevel::Default, /*JIT=*/true));
}

}  // namespace

std::string CodegenTarget::text() const {
  return fmt::format("{} {} lanes, LLVM {}", processor(*this), width, LLVM_VERSION_STRING);
}

struct Codegen::Impl {
  CodegenTarget target;
  std::unique_ptr<llvm::TargetMachine> machine;
  llvm::LLVMContext context;

  std::unique_ptr<llvm::Module> module(const plan::Loop& loop, const std::string& name) {
    auto result = std::make_unique<llvm::Module>(name, context);
    result->setTargetTriple(machine->getTargetTriple().str());
    result->setDataLayout(machine->createDataLayout());
    emit_loop(*result, loop, make_schedule(loop), name, target.width);
    std::string text;
    llvm::raw_string_ostream stream(text);
    ESPALIER_CHECK(!llvm::verifyModule(*result, &stream), ErrorKind::internal, "jit",
                   "emitted invalid IR for \"{}\": {}", loop.key(), stream.str());
    return result;
  }

  std::string generate(const plan::Loop& loop, const std::string& name,
                       llvm::CodeGenFileType type) {
    const auto code = module(loop, name);
    llvm::SmallVector<char, 0> buffer;
    llvm::raw_svector_ostream stream(buffer);
    llvm::legacy::PassManager passes;
    const bool refused = machine->addPassesToEmitFile(passes, stream, nullptr, type,
                                                      /*DisableVerify=*/true);
    ESPALIER_CHECK(!refused, ErrorKind::internal, "jit", "LLVM cannot emit this kind of file");
    passes.run(*code);
    return std::string(buffer.begin(), buffer.end());
  }
};

Codegen::Codegen(CodegenTarget target) : impl_(new Impl) {
  impl_->target = target;
  impl_->machine = make_machine(target);
}
Codegen::~Codegen() = default;

std::string Codegen::object(const plan::Loop& loop, const std::string& name) {
  return impl_->generate(loop, name, llvm::CodeGenFileType::ObjectFile);
}

std::string Codegen::ir(const plan::Loop& loop, const std::string& name) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  impl_->module(loop, name)->print(stream, nullptr);
  return stream.str();
}

std::string Codegen::assembly(const plan::Loop& loop, const std::string& name) {
  return impl_->generate(loop, name, llvm::CodeGenFileType::AssemblyFile);
}

}  // namespace espalier::cpu::jit
