// Remote generate: rf_submit and its events, but the engine is a running server's.
#pragma once

#include "cli/interrupt.h"
#include "cli/remote.h"

#include <rocmforge.h>

// Brings events as rf_wait would: TEXT ones, then one END, to `take`; it returns false to hang up, which cancels. A
// signal cancels on the server, a second one hangs up: the END is then RF_FINISH_CANCELLED. If it was not us who
// cancelled, such an END has an error code. False and *e if no END came.
bool remote_generate(const remote *r, const rf_params *params, interrupt *ctrl_c,
                     bool (*take)(void *self, const rf_event *event), void *self, err *e);
