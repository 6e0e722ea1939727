// SPDX-License-Identifier: Apache-2.0
// Independent pieces of work on a few threads of their own.
#pragma once

#include <cstdint>
#include <functional>

namespace espalier {

/// Calls work(i) for every i in [0, count), each once, on at most `threads` threads (0: as many as
/// there are processors); the caller's is one of them. What is thrown stops the handing out of
/// further pieces; of several exceptions that of the lowest i is thrown on.
void parallel_for(int64_t count, int threads, const std::function<void(int64_t)>& work);

/// `threads`, or the number of processors for 0.
int thread_count(int threads);

}  // namespace espalier
