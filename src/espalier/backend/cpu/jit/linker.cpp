// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/jit/linker.h"

#include <llvm/ExecutionEngine/Orc/ExecutorProcessControl.h>
#include <llvm/ExecutionEngine/Orc/ObjectLinkingLayer.h>
#include <llvm/Support/MemoryBuffer.h>

#include "espalier/backend/cpu/jit/runtime.h"
#include "espalier/base/error.h"

namespace espalier::cpu::jit {
namespace {

using llvm::orc::ExecutorAddr;

void check(llvm::Error error) {
  if (!error) return;
  fail(ErrorKind::internal, "jit", "cannot link compiled loops: {}",
       llvm::toString(std::move(error)));
}
template <typename T>
T check(llvm::Expected<T> value) {
  if (!value) check(value.takeError());
  return std::move(*value);
}

}  // namespace

struct Linker::Impl {
  llvm::orc::ExecutionSession session{check(llvm::orc::SelfExecutorProcessControl::Create())};
  llvm::orc::ObjectLinkingLayer layer{session};
  llvm::orc::JITDylib* library = nullptr;
};

Linker::Linker() : impl_(new Impl) {
  impl_->library = &impl_->session.createBareJITDylib("loops");
  llvm::orc::SymbolMap symbols;
  for (const RuntimeSymbol& symbol : runtime_symbols()) {
    symbols[impl_->session.intern(symbol.name)] = {ExecutorAddr::fromPtr(symbol.address),
                                                   llvm::JITSymbolFlags::Exported};
  }
  check(impl_->library->define(llvm::orc::absoluteSymbols(std::move(symbols))));
}

Linker::~Linker() { llvm::consumeError(impl_->session.endSession()); }

std::vector<void*> Linker::link(const std::vector<std::string>& objects,
                                const std::vector<std::string>& names) {
  std::vector<void*> addresses;
  for (size_t i = 0; i < objects.size(); ++i) {
    check(impl_->layer.add(*impl_->library,
                           llvm::MemoryBuffer::getMemBufferCopy(objects[i], names[i])));
    // One at a time: a lookup of many objects links each within the one before it, and thousands
    // would use up the stack.
    const llvm::orc::ExecutorSymbolDef found =
        check(impl_->session.lookup({impl_->library}, impl_->session.intern(names[i])));
    addresses.push_back(found.getAddress().toPtr<void*>());
  }
  return addresses;
}

}  // namespace espalier::cpu::jit
