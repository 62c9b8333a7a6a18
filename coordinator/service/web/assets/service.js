// Asks the service that this page came from, with the token that the reader gave.

export class NeedsToken extends Error {}

export const hasToken = () => sessionStorage.getItem("token") !== null;

export function signIn(token) {
  sessionStorage.setItem("token", token);
}

export function signOut() {
  sessionStorage.removeItem("token");
}

/** Returns the JSON of an answer. Throws NeedsToken, or an Error whose message says what to do. */
export async function ask(path) {
  const token = sessionStorage.getItem("token");
  // header values are bytes: other characters cannot be part of a token
  const usable = token !== null && /^[\x21-\x7e]+$/.test(token);
  const headers = usable ? { Authorization: `Bearer ${token}` } : {};
  let answer;
  try {
    answer = await fetch(path, { headers });
  } catch {
    throw new Error("The service does not answer. It may be restarting; this page tries again by itself.");
  }
  if (answer.status === 401) throw new NeedsToken();
  const body = await answer.json().catch(() => ({}));
  if (answer.ok) return body;
  throw new Error(`The service refused ${path.split("?")[0]}: ${body.error || answer.status}. ` +
    "If that does not change, ask its operator to look into its log.");
}

export const jobPath = (id, part = "") => `api/jobs/${encodeURIComponent(id)}${part}`;
