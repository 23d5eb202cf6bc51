// Api: what the files behind rocmforge.h share. Any thread.
#pragma once

#include "base/err.h"
#include "rocmforge.h"

// Our error as the caller's; error may be NULL, and is left alone when there was none.
void api_export(rf_error *error, const err *e);
// Every parameter against its documented range, the prompt apart. One sentence on the first that is wrong.
bool api_check_params(const rf_params *p, uint32_t n_vocab, err *e);
