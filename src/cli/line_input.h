// Line input: the lines a person types, with editing and a history kept from run to run, or those of a pipe or a file.
//
// Interactive means that standard input and output are both terminals. Only then is there a prompt, a history
// ($XDG_STATE_HOME/rocmforge/chat_history, readable by its owner alone) and an ear for the bell: no signal reaches
// the editor, so the terminal is never left in the editor's mode. One thread.
#pragma once

#include <stdbool.h>
#include <stddef.h>

typedef struct line_input line_input;
typedef enum line_result { LINE_READ, LINE_INTERRUPTED, LINE_END } line_result;

// bell: an eventfd, borrowed; when it rings, the line being typed is dropped and LINE_INTERRUPTED returned.
line_input *line_input_new(const char *prompt, int bell); // prompt is borrowed
void line_input_free(line_input *in);
bool line_input_is_interactive(const line_input *in);
line_result line_input_read(line_input *in, const char **line, size_t *n_bytes); // no line end; until the next call
