/* A line that is pasted into the search field is a row of words. The search itself would read --option as "without
   option", and complete a short word such as "no" to any longer one. */
(() => {
  const SEARCH = 2 // the kind of message that asks the search
  const SHORT = new Set(["a", "an", "and", "at", "do", "how", "i", "in", "is", "it", "my", "no", "not", "of", "on", "or",
    "should", "so", "the", "to", "was", "what", "when", "which"])
  const words = query => {
    const all = query.split(/[\s\-+~^*:"'`,;()[\]{}<>=/!?.]+/).filter(Boolean)
    const said = all.filter(word => !SHORT.has(word.toLowerCase()) && !/^[\dx]+$/.test(word))
    return (said.length ? said : all).join(" ")
  }
  const post = window.Worker.prototype.postMessage
  window.Worker.prototype.postMessage = function (message, ...more) {
    const asks = message && message.type === SEARCH
    return post.call(this, asks ? { ...message, data: words(message.data) } : message, ...more)
  }
})()
