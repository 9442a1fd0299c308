// What a screen shows of one request, and the thread that asks for it. Knows no Android.
//
//     java -cp CLASSPATH io.edgecascade.example.DrawingKt HOST:PORT "a red apple, noto style" apple.jpg
package io.edgecascade.example

import connect
import generate
import io.edgecascade.v1.CancelRequest
import io.edgecascade.v1.GenerateRequest
import io.edgecascade.v1.GenerateResponse
import io.edgecascade.v1.ImageFormat
import io.grpc.StatusRuntimeException
import requestFor
import stubOf
import java.io.File
import java.util.concurrent.Executors
import java.util.concurrent.Future

/** What is to be seen: one line of text, how far the work is from 0 to 1, and a picture's file bytes. */
data class Shown(val line: String, val done: Float, val picture: ByteArray?, val isOver: Boolean)

/** The next thing to show after an event; `null` where nothing changes. */
fun shownAfter(event: GenerateResponse, picture: ByteArray?): Shown? = when {
    event.hasAccepted() -> Shown("accepted", 0f, picture, false)
    event.hasProgress() -> {
        val step = event.progress
        Shown("${step.stage}: step ${step.step} of ${step.of}", step.step.toFloat() / step.of, picture, false)
    }
    event.hasPreview() -> Shown("${event.preview.stage}: preview", 0f, event.preview.image.data.toByteArray(), false)
    event.hasStageResult() && event.stageResult.hasImage() -> {
        val image = event.stageResult.image
        Shown("${event.stageResult.stage}: ${image.width}x${image.height}", 0f, image.data.toByteArray(), false)
    }
    else -> null
}

/** One request at a time to one server. `show` is called on the thread of this object. */
class Drawing(private val address: String, private val show: (Shown) -> Unit) {
    private val thread = Executors.newSingleThreadExecutor()
    @Volatile private var running: GenerateRequest? = null

    /** Ask for a picture; the future ends when it is there, or failed. */
    fun start(prompt: String, seed: Long): Future<*> = thread.submit { draw(prompt, seed) }

    /** The user gave up: without this call the server would linger. */
    fun cancel() {
        val request = running ?: return
        val channel = connect(address)
        try {
            stubOf(channel).cancel(CancelRequest.newBuilder().setRequestId(request.requestId).build())
        } finally {
            channel.shutdownNow()
        }
    }

    private fun draw(prompt: String, seed: Long) {
        val channel = connect(address)
        var picture: ByteArray? = null
        try {
            val stub = stubOf(channel)
            val request = requestFor(stub, prompt, seed, ImageFormat.IMAGE_FORMAT_JPEG)
            running = request
            picture = generate(stub, request) { event ->
                shownAfter(event, picture)?.let { picture = it.picture; show(it) }
            }
            show(Shown("done: ${picture!!.size} bytes", 1f, picture, true))
        } catch (error: StatusRuntimeException) {
            show(Shown("${error.status.code}: ${error.status.description}", 0f, picture, true))
        } finally {
            running = null
            channel.shutdownNow()
        }
    }

    /** Nothing more is asked for. */
    fun close() = thread.shutdown()
}

fun main(args: Array<String>) {
    val (address, prompt, file) = args
    var last: Shown? = null
    val drawing = Drawing(address) { println(it.line); last = it }
    drawing.start(prompt, 0).get()
    drawing.close()
    last?.picture?.let { File(file).writeBytes(it) }
}
