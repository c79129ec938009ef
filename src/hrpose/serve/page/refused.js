// What the page cannot do, with a code that chooses the text shown.

/** A refusal: `code`, or `cause` if there is one, chooses the text shown; `message` is the reason. */
export class Refused extends Error {
  constructor(code, reason = "", { cause = null, status = 0, retryAfter = 0, answer = {} } = {}) {
    super(reason);
    this.code = code;
    this.causeCode = cause;
    this.status = status;
    this.retryAfter = retryAfter;
    this.answer = answer; // all that the server said
  }
}
