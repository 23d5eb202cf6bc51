// Bell: how the engine's thread wakes the event loop: nodes are posted, the loop is told once, and takes them all.
//
// Any thread posts; the loop's thread opens, closes and is called. A node belongs to the bell from the post until its
// callback. Rings that come close together cost one system call. Silent when nobody posts.
#pragma once

#include "base/err.h"
#include "base/mailbox.h"

#include <event2/event.h>

typedef struct bell bell;

bell *bell_open(struct event_base *base, void (*answer)(mail_node *node), err *e);
void bell_close(bell *b); // nothing may be posted any more; what was posted is called first
void bell_post(bell *b, mail_node *node);
