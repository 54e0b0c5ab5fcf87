/** A server answered, and not as asked: to ask again would not help. */
export class MlflowError extends Error {
  override readonly name = "MlflowError";

  constructor(
    message: string,
    /** MLflow's own word for it, such as `"RESOURCE_DOES_NOT_EXIST"`, or null. */
    readonly code: string | null = null,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** A server did not answer, or was not able to for now. */
export class MlflowUnreachableError extends Error {
  override readonly name = "MlflowUnreachableError";
}

/** Who asks. */
export interface MlflowCredentials {
  /** `MLFLOW_TRACKING_TOKEN` */
  token?: string | null;
  /** `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD` */
  username?: string | null;
  password?: string | null;
}

/** Asks a tracking server by MLflow's REST interface, version 2.0. */
export class MlflowClient {
  /** Without credentials. */
  readonly uri: string;
  readonly #headers: Record<string, string>;

  /**
   * @param uri `http://HOST:PORT`; a name and a password in it are taken from it
   * @param requestSeconds how long one answer may take
   * @throws MlflowError for what is no such address
   */
  constructor(uri: string, credentials: MlflowCredentials = {}, private readonly requestSeconds = 10) {
    const url = URL.canParse(uri) ? new URL(uri) : null;
    if (url === null || !["http:", "https:"].includes(url.protocol)) {
      throw new MlflowError(`"${uri}" is not the address of an MLflow server; give one such as http://127.0.0.1:5000`);
    }
    const username = url.username === "" ? credentials.username : decodeURIComponent(url.username);
    const password = url.username === "" ? credentials.password : decodeURIComponent(url.password);
    this.uri = `${url.origin}${url.pathname.replace(/\/+$/, "")}`;
    const authorization = credentials.token
      ? `Bearer ${credentials.token}`
      : username ? `Basic ${Buffer.from(`${username}:${password ?? ""}`).toString("base64")}` : null;
    this.#headers = { accept: "application/json", ...(authorization === null ? {} : { authorization }) };
  }

  /**
   * @param method `"runs/create"` and the like
   * @param signal ends the wait early
   * @throws MlflowUnreachableError where another try may succeed, MlflowError where not
   */
  post<Answer>(method: string, body: object, signal?: AbortSignal): Promise<Answer> {
    const headers = { ...this.#headers, "content-type": "application/json" };
    return this.#ask(method, { method: "POST", headers, body: JSON.stringify(body) }, signal);
  }

  /** As {@link post}, for what only reads. */
  get<Answer>(method: string, query: Record<string, string>, signal?: AbortSignal): Promise<Answer> {
    return this.#ask(`${method}?${new URLSearchParams(query)}`, { headers: this.#headers }, signal);
  }

  async #ask<Answer>(path: string, request: RequestInit, signal?: AbortSignal): Promise<Answer> {
    let status: number;
    let text: string;
    const limit = AbortSignal.timeout(1000 * this.requestSeconds);
    try {
      const response = await fetch(`${this.uri}/api/2.0/mlflow/${path}`, {
        ...request, redirect: "error", signal: signal === undefined ? limit : AbortSignal.any([limit, signal]),
      });
      ({ status } = response);
      text = await response.text();
    } catch (error) {
      throw new MlflowUnreachableError(this.#reason(error as Error), { cause: error });
    }
    const answer = parsed(text) as { error_code?: string; message?: string } | null;
    if (status === 408 || status === 429 || status >= 500) {
      throw new MlflowUnreachableError(`it answers with status ${status}${answer?.message ? ` (${answer.message})` : ""}`);
    }
    if (status === 401 || status === 403) {
      throw new MlflowError(
        `${this.uri} lets us in only with other credentials (status ${status}); set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD`,
      );
    }
    if (status === 200 && answer !== null) return answer as Answer;
    if (answer?.error_code === undefined) {
      throw new MlflowError(`${this.uri} does not answer as an MLflow server does (status ${status}); give the server's own address, such as http://127.0.0.1:5000`);
    }
    throw new MlflowError(`${this.uri} refuses ${path.replace(/\?.*/, "")}: ${answer.message ?? answer.error_code}`, answer.error_code);
  }

  #reason(error: Error): string {
    if (error.name === "TimeoutError") return `no answer came within ${this.requestSeconds} s`;
    const { cause } = error as { cause?: Error & { code?: string } };
    return cause?.code ?? cause?.message ?? error.message;
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
